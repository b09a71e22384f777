package spec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CheckName returns an error if a name is not a DNS label. The name of a container is also
// the name of a directory, a cgroup and a host.
func CheckName(name string) error {
	if len(name) > 63 || !isDNSLabel(name) || strings.ToLower(name) != name {
		return errors.New("want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends")
	}
	return nil
}

// isDNSLabel reports whether s is a DNS label. Upper case is allowed, as in host names.
func isDNSLabel(s string) bool {
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && hasOnly(s, "-")
}

// CheckHostname returns an error if name is not a valid host name.
func CheckHostname(name string) error {
	if !isHostname(name) {
		return errors.New("want at most 64 letters, digits and '-', in parts separated by '.'")
	}
	return nil
}

// isHostname reports whether s is a host name by RFC 1123, within the 64 bytes that the
// kernel keeps.
func isHostname(s string) bool { return len(s) <= 64 && isDomain(s) }

// checkLabelKey returns an error if key is not a word, or a DNS name, a slash and a word.
func checkLabelKey(key string) error {
	prefix, word, found := strings.Cut(key, "/")
	if !found {
		prefix, word = "", key
	}
	if !isLabelWord(word) || found && (len(prefix) > 253 || !isDomain(prefix)) {
		return errors.New("want a key of at most 63 letters, digits, '-', '_' and '.', as in app or example.com/app")
	}
	return nil
}

func isDomain(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !isDNSLabel(part) {
			return false
		}
	}
	return true
}

func isLabelWord(s string) bool {
	return s != "" && len(s) <= 63 && isAlnum(s[0]) && isAlnum(s[len(s)-1]) && hasOnly(s, "-_.")
}

// hasOnly reports whether s consists of ASCII letters, digits and the characters of more.
func hasOnly(s, more string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && strings.IndexByte(more, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// checkEnvKey returns an error if key is not a name that execve(2) can pass on.
func checkEnvKey(key string) error {
	if key == "" || strings.Contains(key, "=") {
		return errors.New("want a name that is not empty and holds no '='")
	}
	if strings.HasPrefix(key, "STEAD_") {
		return errors.New("names that begin with STEAD_ are set by stead")
	}
	return nil
}

// checkUser returns an error if user is not USER or USER:GROUP.
func checkUser(user string) error {
	name, group, grouped := strings.Cut(user, ":")
	err := checkID(name)
	if err == nil && grouped {
		err = checkID(group)
	}
	if err != nil && strings.Count(user, ":") < 2 {
		return err
	}
	if err != nil {
		return errors.New("want USER or USER:GROUP, each a name or an id")
	}
	return nil
}

// checkID returns an error if s is neither the name of a user or group nor an id. Digits
// only are an id and are never looked up as a name (CVE-2016-3697: a passwd line with a number
// for a name made one id stand for another).
func checkID(s string) error {
	digits, rest := splitNumber(s)
	if digits != "" && rest == "" {
		if n, err := strconv.Atoi(s); err != nil || n > maxID || strconv.Itoa(n) != s {
			return fmt.Errorf("want an id from 0 to %d, without leading zeros", maxID)
		}
		return nil
	}
	if s == "" || digits != "" || len(s) > 32 || s[0] == '-' || !hasOnly(strings.TrimSuffix(s, "$"), "_.-") {
		return errors.New("want USER or USER:GROUP, each a name or an id")
	}
	return nil
}

// checkSignal returns an error if name is not the name of a signal without SIG.
func checkSignal(name string) error {
	if isSignal(name) {
		return nil
	}
	upper := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if isSignal(upper) {
		return fmt.Errorf("want the name without SIG, in capitals: %s", upper)
	}
	return fmt.Errorf("want a signal such as TERM, INT, QUIT or RTMIN+3%s", didYouMean(upper, signalNames()))
}

// isSignal reports whether name is one of signal(7), or RTMIN+n or RTMAX-n within the
// range that C libraries leave to programs (34 to 64).
func isSignal(name string) bool {
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if offset, ok := strings.CutPrefix(name, base); ok {
			n, err := parseWhole(offset)
			return err == nil && n >= 1 && n <= 30
		}
	}
	return slices.Contains(signalNames(), name)
}

func signalNames() []string {
	return strings.Fields("HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP TTIN TTOU " +
		"URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS RTMIN RTMAX")
}

func ulimitNames() []string {
	return strings.Fields("as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack")
}

func capabilityNames() []string {
	return strings.Fields("ALL AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH " +
		"FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE " +
		"NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE " +
		"SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG WAKE_ALARM")
}
