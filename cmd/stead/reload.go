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

// reloads calls reload for each SIGHUP.
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
		_ = d.reload(ctx) // it logs its errors
		d.notify(sd.SdNotifyReady)
	}
}

// reloading is an engine whose Reload also reads the configuration file.
type reloading struct {
	*reconcile.Engine
	d *daemon
}

func (r reloading) Reload(ctx context.Context) error { return r.d.reload(ctx) }

// reload reads the configuration file and checks everything again. If the file has
// errors, the current configuration stays.
func (d *daemon) reload(ctx context.Context) error {
	select {
	case d.checkSocket <- struct{}{}:
	default: // it is about to check
	}
	d.config.Lock()
	defer d.config.Unlock()
	s, err := d.flags.settings(func(text string) { d.log.Warn(text) })
	if err != nil {
		d.log.Error("configuration file invalid; keeping the current configuration", "error", strings.Join(errorLines(err), "; "))
		return errors.Join(fmt.Errorf("configuration file invalid; keeping the current configuration: %w", err), d.engine.Reload(ctx))
	}
	if !reflect.DeepEqual(s, d.settings) {
		if err := d.rt.SetIDs(s.firstID, s.ids); err != nil {
			return err
		}
		d.rt.SetProtected(d.flags.config, s.manifests)
		d.rt.Images.SetRegistries(s.registries)
		d.rt.SetTrusted(ownersOf(s.trust))
		d.log.Info("configuration changed", "manifests", s.manifests, "host", s.host, "settle", s.settle, "retention", s.retention)
		d.settings = s
		d.engine.Configure(s.settle, s.retention)
		d.src.Change(func(src *source.Source) {
			src.Dirs, src.Parser, src.Host, src.Trust, src.Protected = s.manifests, d.parser(), s.host, s.trust, d.protected()
		})
	}
	return d.engine.Reload(ctx)
}
