package spec

import (
	"strings"
	"testing"
)

func TestEnvFile(t *testing.T) {
	for _, row := range []struct{ summary, text, want, wrong string }{
		{"variables", "A=1\nB=x y\nA=2\n", "A=1|B=x y|A=2", ""},
		{"comments and blank lines", "# A=1\n\n  # x\n \t\nB=#x\n", "B=#x", ""},
		{"no newline at the end, and those of Windows", "A=1\r\nB=2", "A=1|B=2", ""},
		{"nothing", "", "", ""},
		{"an empty value", "A=\nB=''\n", "A=|B=", ""},
		{"one pair of quotes", `A="x # y"` + "\n" + `B='$x "y" ${z}'` + "\n" + `C="it's"`, `A=x # y|B=$x "y" ${z}|C=it's`, ""},
		{"equal signs", "A=b=c==\n", "A=b=c==", ""},
		{"a dollar", "A=p$x$$\n", "A=p$x$$", ""},
		{"export", "export A=s3cret\n", "", "app.env:1: found export; write A=VALUE"},
		{"spaces around =", "A = s3cret\n", "", "app.env:1: found spaces around the name; write A=VALUE"},
		{"spaces before the value", "A= s3cret\n", "", "app.env:1: A: found spaces at an end of the value; remove them, or quote it: A='VALUE'"},
		{"spaces behind the value", "\nA=s3cret \n", "", "app.env:2: A: found spaces at an end of the value; remove them, or quote it: A='VALUE'"},
		{"a comment behind the value", "A=s3cret # old\n", "", "app.env:1: A: found a comment behind the value; write it on a line of its own, or quote the value if the # belongs to it: A='VALUE'"},
		{"an expansion", "A=${s3cret}\n", "", "app.env:1: A: nothing is expanded in the value; write the result, or if it is meant as it stands: A='VALUE'"},
		{"an expansion in quotes", "A=\"$(s3cret)\"\n", "", "app.env:1: A: nothing is expanded in the value; write the result, or if it is meant as it stands: A='VALUE'"},
		{"a quote that stays open", "A='s3cret\n", "", "app.env:1: A: found a ' without another at the end of the line; a value is one line"},
		{"text behind a quote", "A='s3'cret\n", "", "app.env:1: A: found a ' without another at the end of the line; a value is one line"},
		{"a quote in quotes", `A='s3'cret'`, "", "app.env:1: A: found a ' inside the quotes; quote the value with the other kind"},
		{"no variable", "s3cret\n", "", "app.env:1: want NAME=VALUE; a comment begins with #"},
		{"no name", "=s3cret\n", "", `app.env:1: "": want a name that is not empty and holds no '='`},
		{"a name of stead's own", "STEAD_NAME=s3cret\n", "", `app.env:1: "STEAD_NAME": names that begin with STEAD_ are set by stead`},
		{"no text", "A=\xffs3cret\n", "", "app.env:1: want text in UTF-8"},
		{"too long", "A=" + strings.Repeat("x", maxWord), "", "app.env:1: A: is 131071 bytes; the kernel takes at most 131069 for one variable"},
		{"all at once", "x\nA=1\ny\n", "A=1", "app.env:1: want NAME=VALUE; a comment begins with #|app.env:3: want NAME=VALUE; a comment begins with #"},
	} {
		vars, errs := ParseEnvFile("app.env", []byte(row.text))
		var wrong []string
		for _, e := range errs {
			wrong = append(wrong, e.Error())
		}
		if got := strings.Join(wrong, "|"); got != row.wrong || strings.Join(vars, "|") != row.want {
			t.Errorf("%s: got %q, %s\nwant %q, %s", row.summary, vars, got, row.want, row.wrong)
		}
		if strings.Contains(strings.Join(wrong, ""), "s3cret") {
			t.Errorf("%s: tells the value: %s", row.summary, wrong)
		}
	}
}

func TestSecret(t *testing.T) {
	for text, want := range map[string]string{"x": "x", "x\n": "x", "x\n\n": "x\n", "": "", "\n": "", " x ": " x ", "x\r\n": "x\r", "x\ny\n": "x\ny"} {
		if got, err := ParseSecret([]byte(text)); got != want || err != nil {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"x\x00", strings.Repeat("x", maxWord)} {
		if _, err := ParseSecret([]byte(text)); err == nil || strings.Contains(err.Error(), "xx") {
			t.Errorf("got %v", err)
		}
	}
}
