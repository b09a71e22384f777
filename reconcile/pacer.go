package reconcile

import "time"

// pacer says when the next pass is due. File events wait for a quiet moment, so
// that one pass serves a whole checkout, but no longer than limit, so that
// constant writes can't starve the loop. Other reasons wait for the loop to have
// rested: with ten thousand containers coming up, a pass for each that reports
// would leave no time to start them.
type pacer struct {
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
func (p *pacer) event(now time.Time) {
	if p.first.IsZero() {
		p.first = now
	}
	p.events = earlier(now.Add(p.quiet), p.first.Add(p.limit))
}

// other notes another reason, which is due at a time.
func (p *pacer) other(at time.Time) {
	if rested := p.last.Add(rest * p.cost); at.Before(rested) {
		at = rested
	}
	p.others = earlier(p.others, at)
}

// passed notes that a pass has served all there was.
func (p *pacer) passed(began, ended time.Time) {
	p.first, p.events, p.others = time.Time{}, time.Time{}, time.Time{}
	p.last, p.cost = ended, ended.Sub(began)
}

// due is when the next pass is, zero if there is no reason for one.
func (p *pacer) due() time.Time { return earlier(p.events, p.others) }

// earlier is the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
