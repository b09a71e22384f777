package reconcile

import "time"

// debounce says when the next pass is due. File events wait for a quiet moment, so
// that one pass serves a whole checkout, but no longer than limit, so that
// constant writes can't starve the loop. Other reasons wait for the loop to have
// rested: with ten thousand containers coming up, a pass for each that reports
// would leave no time to start them.
type debounce struct {
	quiet, limit time.Duration

	first  time.Time // file event that no pass has served
	events time.Time // when those are due
	others time.Time // when everything else is
	last   time.Time // end of the last pass
	cost   time.Duration
}

// rest is how many times as long as a pass took the loop rests after it.
const rest = 5

// event notes a file event.
func (d *debounce) event(now time.Time) {
	if d.first.IsZero() {
		d.first = now
	}
	d.events = earlier(now.Add(d.quiet), d.first.Add(d.limit))
}

// other notes another reason, which is due at a time.
func (d *debounce) other(at time.Time) {
	if rested := d.last.Add(rest * d.cost); at.Before(rested) {
		at = rested
	}
	d.others = earlier(d.others, at)
}

// passed notes that a pass has served all there was.
func (d *debounce) passed(began, ended time.Time) {
	d.first, d.events, d.others = time.Time{}, time.Time{}, time.Time{}
	d.last, d.cost = ended, ended.Sub(began)
}

// due is when the next pass is, zero if there is no reason for one.
func (d *debounce) due() time.Time { return earlier(d.events, d.others) }

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
