package spec

import "time"

// Bytes is a number of bytes, written plain or with Ki, Mi, Gi, Ti.
type Bytes int64

// CPU is CPU time per time in thousandths of a core, written `0.5` or `500m`.
type CPU int64

// Duration is a span of time, written as Go does (`1m30s`) or with d for days.
type Duration time.Duration

// Text is a string for which a number may stand: it keeps the number's text.
type Text string

// Later is a field that the language knows and this version does not serve: it
// is refused with "not supported yet".
type Later struct{}
