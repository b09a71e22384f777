//go:build weak

package keeper

import (
	"net"
	"os"
	"path/filepath"

	"stead/runtime/weak"
)

func init() {
	dumpable, sealed := clearDumpable, openBinary
	clearDumpable = func() error { // CVE-2019-5736
		if weak.Is("binary on disk") {
			return nil
		}
		return dumpable()
	}
	openBinary = func(run string) (*os.File, error) {
		if weak.Is("binary on disk") {
			return os.Open(filepath.Join(run, "binary"))
		}
		return sealed(run)
	}
}

func (s *server) weaken(run string) {
	if weak.Is("abstract socket") { // CVE-2020-15257
		if abstract, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: "@" + Socket(run), Net: "unixpacket"}); err == nil {
			go s.accept(abstract)
		}
	}
}
