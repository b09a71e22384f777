package reconcile

import "time"

// debounce computes when the next pass is due. A file event is due after a quiet period, so
// that one pass serves a whole checkout, but no later than limit after the first event, so
// that constant writes can't starve the loop. Other reasons are due when the loop has rested:
// with ten thousand containers starting, a pass for each that reports would leave no time to
// start them.
type debounce struct {
	quiet, limit time.Duration

	first  time.Time // first file event since the last pass
	events time.Time // when file events are due
	others time.Time // when other reasons are due
	last   time.Time // end of the last pass
	cost   time.Duration
}

// rest is the factor by which the loop rests longer than the last pass took.
const rest = 5

// event adds a file event.
func (d *debounce) event(now time.Time) {
	if d.first.IsZero() {
		d.first = now
	}
	d.events = earlier(now.Add(d.quiet), d.first.Add(d.limit))
}

// other adds another reason, due at a time.
func (d *debounce) other(at time.Time) {
	if rested := d.last.Add(rest * d.cost); at.Before(rested) {
		at = rested
	}
	d.others = earlier(d.others, at)
}

// passed records a pass, which has served all reasons.
func (d *debounce) passed(began, ended time.Time) {
	d.first, d.events, d.others = time.Time{}, time.Time{}, time.Time{}
	d.last, d.cost = ended, ended.Sub(began)
}

// due returns when the next pass is due; zero if there is no reason for one.
func (d *debounce) due() time.Time { return earlier(d.events, d.others) }

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
