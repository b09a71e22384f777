package main

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 11, 23, 19, 30, 0, 0, time.FixedZone("here", 3600))
	for text, want := range map[string]string{
		"10m": "2026-11-23 19:20:00", "1d": "2026-11-22 19:30:00", "19:29": "2026-11-23 19:29:00", "19:46": "2026-11-22 19:46:00",
		"08:00:05": "2026-11-23 08:00:05", "today": "2026-11-23 00:00:00", "yesterday": "2026-11-22 00:00:00", "now": "2026-11-23 19:30:00",
		"2026-11-20": "2026-11-20 00:00:00", "2026-11-20 07:08": "2026-11-20 07:08:00", "2026-11-23T04:15:00Z": "2026-11-23 05:15:00",
	} {
		got, err := parseTime("--since", text, now)
		if err != nil || got.In(now.Location()).Format(time.DateTime) != want {
			t.Errorf("%s: %v %v, want %s", text, got, err, want)
		}
	}
	if _, err := parseTime("--until", "tomorrow", now); err == nil || !strings.HasPrefix(err.Error(), "--until tomorrow: want a duration") {
		t.Error(err)
	}
}

// Output by stream and time.
func TestLogsOfOneStream(t *testing.T) {
	h := newHost(t)
	h.write("a.yaml", strings.Replace(manifest("a", ""), `echo "I am $STEAD_NAME"`, `echo out1; echo err1 >&2; echo out2; echo err2 >&2; echo end`, 1))
	h.ok("apply")
	h.untilLogged("a", "end\n")
	h.untilLogged("a", "err2\n")
	for line, want := range map[string]string{
		"--stream stdout": "out1\nout2\nend\n", "--stream stderr": "err1\nerr2\n", "-n 1 --stream stderr": "err2\n",
		"--until 1h": "", "--since 1h --stream stderr --tail 1": "err2\n",
	} {
		if got := h.ok(append([]string{"logs", "a"}, strings.Fields(line)...)...); got != want {
			t.Errorf("logs %s: %q, want %q", line, got, want)
		}
	}
	if c := h.stead("logs", "a", "-f", "--until", "1h"); c.code != exitUsage {
		t.Errorf("-f with --until: %+v", c)
	}
}
