package keeper

import (
	"testing"
	"testing/synctest"
	"time"
)

// An upgrade that comes while a start hangs is refused soon, and other starts go on meanwhile.
func TestUpgradeDuringHungStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u upgrade
		u.RLock() // the start that hangs
		began := time.Now()
		got := make(chan bool)
		go func() { got <- u.lockSoon() }()
		time.Sleep(time.Second)
		if !u.TryRLock() {
			t.Error("a start waits for the upgrade")
		} else {
			u.RUnlock()
		}
		if <-got || time.Since(began) > 2*upgradePatience {
			t.Errorf("the upgrade got the lock, or took %s", time.Since(began))
		}
		u.RUnlock()
		if !u.lockSoon() {
			t.Error("an upgrade without a start is refused")
		}
	})
}
