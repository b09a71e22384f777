package reconcile

import "time"

// Configure changes what a daemon can be told while it runs; the values are those
// of the fields.
func (e *Engine) Configure(settle, retention time.Duration) {
	e.init()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Settle, e.Retention = orDefault(settle, DefaultSettle), orDefault(retention, DefaultRetention)
	e.memory.Settle = e.Settle
}

// retention is how long the data of removed containers is kept now.
func (e *Engine) retention() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Retention
}
