package image

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"testing"

	"stead/runtime/job"
	"stead/runtime/roottest"
)

// removeKind and pruneKind are jobs that delete images, so that a test can kill what deletes.
const (
	removeKind = "test-remove"
	pruneKind  = "test-prune"
)

func TestMain(m *testing.M) {
	if os.Args[0] == job.Argv0 {
		kinds := maps.Clone(JobKinds())
		kinds[removeKind] = func(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
			q, s, err := begin(request, report)
			if err == nil {
				err = s.Remove(ctx, q.Name, nil)
			}
			return jobResult{q.Name}, err
		}
		kinds[pruneKind] = func(ctx context.Context, request json.RawMessage, report func(any)) (any, error) {
			q, s, err := begin(request, report)
			if err == nil {
				_, err = s.Prune(ctx, nil)
			}
			return jobResult{q.Name}, err
		}
		os.Exit(job.Main(os.Args, kinds))
	}
	os.Exit(roottest.Main(m))
}
