package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"stead/reconcile"
	"stead/reconcile/source"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// reloads looks at everything again for each SIGHUP.
func (d *daemon) reloads(ctx context.Context, hangups <-chan os.Signal) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
		}
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, now.Nano()/1000))
		d.log.Info("reloading")
		_ = d.reload(ctx) // says in the log what is wrong
		d.notify(sd.SdNotifyReady)
	}
}

// reloading is the loop, whose reload reads the configuration file again too.
type reloading struct {
	*reconcile.Engine
	d *daemon
}

func (r reloading) Reload(ctx context.Context) error { return r.d.reload(ctx) }

// reload reads the configuration file and looks at everything again. With a
// broken file all stays as it was configured.
func (d *daemon) reload(ctx context.Context) error {
	select {
	case d.lookAtSocket <- struct{}{}:
	default: // about to
	}
	d.config.Lock()
	defer d.config.Unlock()
	s, err := d.given.settings(func(text string) { d.log.Warn(text) })
	if err != nil {
		d.log.Error("the configuration stays as it was", "error", strings.Join(errorLines(err), "; "))
		return errors.Join(fmt.Errorf("the configuration stays as it was: %w", err), d.engine.Reload(ctx))
	}
	if !reflect.DeepEqual(s, d.settings) {
		if err := d.rt.SetIDs(s.firstID, s.ids); err != nil {
			return err
		}
		d.rt.SetProtected(d.given.config, s.manifests)
		d.log.Info("the configuration has changed", "manifests", s.manifests, "host", s.host, "settle", s.settle, "retention", s.retention)
		d.settings = s
		d.engine.Configure(s.settle, s.retention)
		d.src.Change(func(src *source.Source) {
			src.Dirs, src.Parser, src.Host, src.Trust, src.Protected = s.manifests, d.parser(), s.host, s.trust, d.protected()
		})
	}
	return d.engine.Reload(ctx)
}
