package reconcile

import (
	"testing"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/status"
)

// One container writes a volume, unless all that do so share it: others wait and name it.
func TestPlanOfVolumes(t *testing.T) {
	const data, shared, reads = "mounts: {/d: {volume: data}}", "mounts: {/d: {volume: data, shared: true}}", "mounts: {/d: {volume: data, readOnly: true}}"
	taken := func(by string) string {
		return "volume data is written by " + by + "; several containers may write it if all of them mount it with shared: true"
	}
	for _, row := range []struct {
		summary  string
		files    map[string]string
		observed []*status.Status
		busy     map[plan.Subject]plan.Verb
		want     string
		waits    string // who, and for whom
	}{
		{"one", map[string]string{"a.yaml": yaml("a", data)}, nil, nil, "create a  (manifest a.yaml)\n", ""},
		{"two new ones: the first name", map[string]string{"b.yaml": yaml("b", data), "a.yaml": yaml("a", data)}, nil, nil, "create a  (manifest a.yaml)\n", "b " + taken("a")},
		{"one that runs", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data)}, []*status.Status{running(t, "b", data)}, nil, "", "a " + taken("b")},
		{"one that is being started", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data)}, nil, map[plan.Subject]plan.Verb{plan.ContainerNamed("b"): plan.Create}, "", "a " + taken("b")},
		{"one that crashed and waits", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data)},
			[]*status.Status{ended(t, "b", status.Exit{Code: 1, Reason: status.ReasonError}, 0, data)}, nil, "", "a " + taken("b") + "; b"},
		{"one that is suspended", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data, "suspend: true")}, []*status.Status{as(status.Created, running(t, "b", data, "suspend: true"))}, nil,
			"create a  (manifest a.yaml)\n", ""},
		{"one that is stopped by an admin", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data)},
			[]*status.Status{stoppedBy(noon, ended(t, "b", status.Exit{Reason: status.ReasonStopped}, time.Minute, data))}, nil, "create a  (manifest a.yaml)\n", ""},
		{"all share it", map[string]string{"a.yaml": yaml("a", shared), "b.yaml": yaml("b", shared)}, []*status.Status{running(t, "b", shared)}, nil, "create a  (manifest a.yaml)\n", ""},
		{"one does not share it", map[string]string{"a.yaml": yaml("a", shared), "b.yaml": yaml("b", data)}, []*status.Status{running(t, "b", data)}, nil, "", "a " + taken("b")},
		{"one only reads it", map[string]string{"a.yaml": yaml("a", reads), "b.yaml": yaml("b", data), "c.yaml": yaml("c", reads)}, []*status.Status{running(t, "b", data)}, nil, "create a  (manifest a.yaml)\ncreate c  (manifest c.yaml)\n", ""},
		{"one that asks for it later", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data)}, []*status.Status{running(t, "a"), running(t, "b", data)}, nil, "", "a " + taken("b")},
		{"a change of the one that has it", map[string]string{"a.yaml": yaml("a", data), "b.yaml": yaml("b", data, "env: {X: '1'}")}, []*status.Status{running(t, "b", data)}, nil,
			"restart b  spec.env.X (absent) → (hidden)  (needs a restart)\n", "a " + taken("b")},
		{"another volume", map[string]string{"a.yaml": yaml("a", "mounts: {/d: {volume: data2}}"), "b.yaml": yaml("b", data)}, []*status.Status{running(t, "b", data)}, nil, "create a  (manifest a.yaml)\n", ""},
		{"the one that had it is removed: not before it is gone", map[string]string{"a.yaml": yaml("a", data)}, []*status.Status{running(t, "b", data)}, nil, "", "a " + taken("b") + "; b"},
	} {
		_, p := planOf(row.files, row.observed, plan.Memory{Settle: time.Hour, Busy: row.busy})
		if got := p.String(); got != row.want {
			t.Errorf("%s: got %swant %s", row.summary, got, row.want)
		}
		waits := ""
		for _, w := range p.Waits {
			if waits != "" {
				waits += "; "
			}
			waits += w.Name
			if w.Until.IsZero() {
				waits += " " + w.Why
			}
		}
		if waits != row.waits {
			t.Errorf("%s: waits: got %q, want %q", row.summary, waits, row.waits)
		}
	}
}
