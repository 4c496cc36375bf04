package sshconfig

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sand-boxer/sandboxer"
)

// write makes a configuration file.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestAsOpenSSH holds what is read to what ssh -G says of the same file.
func TestAsOpenSSH(t *testing.T) {
	ssh, err := exec.LookPath("ssh")
	if err != nil || exec.Command(ssh, "-G", "-F", write(t, ""), "h").Run() != nil {
		t.Skip("no ssh with -G")
	}
	aliases := []string{"foo", "Foo", "bar", "foobar", "nope", "f.example.org"}
	for name, text := range map[string]string{
		"empty":                "",
		"first value wins":     "Port 1\nPort 2\nUser a\nHost *\nUser b\nHostName x\nHostName y\n",
		"host patterns":        "Host foo bar\nPort 1\nHost f*\nUser f\nHost ?oo\nHostName q\nHost *\nPort 9\n",
		"negation":             "Host * !foo\nPort 1\nHost !bar\nUser a\nHost f* !foobar\nUser b\n",
		"comma is no list":     "Host f*,b*\nPort 9\n",
		"case of names":        "Host Foo\nHostName Server-%h.Example.ORG\nHostKeyAlias Foo\n",
		"case of keywords":     "hOST foo\npORT 7\nhostname a\n",
		"equals signs":         "Port=1\nUser = a\nHostName= b\n",
		"quotes":               "Host \"foo\" 'bar'\nPort \"7\"\nUser a'b'c\nIdentityFile \"/k/a b\"\nIdentityFile /k/a\\ b\nIdentityFile \"/k/q\\\"q\"\n",
		"a quoted list":        "Host \"foo bar\"\nPort 1\n",
		"comments":             "# one\n  # two\nHost foo # three\nPort 1 # four\nUser a#b\n",
		"carriage returns":     "Host foo\r\nPort 1\r\n",
		"no end of line":       "Host foo\n  Port 1",
		"identity files":       "IdentityFile /k/a\nHost foo\nIdentityFile /k/b\nIdentitiesOnly yes\nHost *\nIdentityFile /k/a\nIdentityFile /k/c\nCertificateFile /k/c1\nCertificateFile /k/c2\nIdentityAgent /k/agent\n",
		"known hosts":          "Host foo\nUserKnownHostsFile /k/a \"/k/b c\"\nHost *\nUserKnownHostsFile /k/d\nGlobalKnownHostsFile /k/e\n",
		"jumps":                "Host foo\nProxyJump u@j1:23,j2\nHost bar\nProxyJump none\nHost *\nProxyJump u@[::1]:24\n",
		"jump tokens":          "ProxyJump none\n",
		"no proxy command":     "ProxyCommand none\nProxyJump x\n",
		"jump, then a command": "ProxyJump x\nProxyCommand none\n",
		"match all":            "Host x\nMatch all\nPort 1\n",
		"match host":           "HostName h-%h\nMatch host h-foo,h-BAR\nPort 1\nMatch !host h-foo\nUser a\nMatch host h-*,!h-bar\nHostKeyAlias k\n",
		"match originalhost":   "HostName x\nMatch originalhost FOO\nPort 1\nMatch originalhost f* user root\nHostKeyAlias k\n",
		"match user":           "Host foo\nUser a\nMatch user a\nPort 1\nMatch user b\nPort 2\nMatch user * host nope\nUser c\n",
		"match localuser":      "Match localuser nobody-at-all\nPort 1\nMatch !localuser nobody-at-all\nPort 2\n",
		"match canonical":      "Match canonical\nPort 1\nMatch !canonical host foo\nPort 2\n",
		"match that fails":     "Match host other exec \"false\"\nPort 1\nMatch originalhost other final\nPort 2\n",
		"match with signs":     "Match host=foo\nPort 1\nMatch host = bar\nPort 2\n",
		"timeouts":             "Host foo\nConnectTimeout 7\nHost *\nConnectTimeout 1m30s\n",
		"of no concern":        "ForwardAgent yes\nSendEnv LANG LC_*\nControlMaster auto\nControlPath ~/x-%C\nServerAliveInterval 5\nLocalForward 1 a:1\nIgnoreUnknown UseKeychain,Fr*\nUseKeychain yes\nFrob x y z\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, text)
			for _, alias := range aliases {
				h, err := Resolve(file, Query{Alias: alias})
				if err != nil {
					t.Fatal(err)
				}
				if diff := gocmp.Diff(dump(t, ssh, file, alias), said(t, h)); diff != "" {
					t.Errorf("%s: ssh -G and this package:\n%s", alias, diff)
				}
				if len(h.Warnings) > 0 {
					t.Errorf("warnings: %q", h.Warnings)
				}
			}
		})
	}
}

// dump is what ssh -G says, by keyword, less its defaults.
func dump(t *testing.T, ssh, file, alias string) map[string]string {
	t.Helper()
	out, err := exec.Command(ssh, "-G", "-F", file, alias).Output()
	if err != nil {
		t.Fatalf("ssh -G: %v", err)
	}
	text, _ := os.ReadFile(file)
	written := strings.ToLower(string(text))
	got := map[string]string{}
	for l := range strings.Lines(string(out)) {
		keyword, value, _ := strings.Cut(strings.TrimSpace(l), " ")
		switch keyword {
		case "hostname", "port", "proxyjump", "hostkeyalias", "connecttimeout", "identityagent", "certificatefile", "identitiesonly", "user":
		case "userknownhostsfile", "globalknownhostsfile", "identityfile":
			if !strings.Contains(written, keyword) || strings.HasPrefix(value, "~/.ssh/id_") || strings.Contains(value, "ssh/known_hosts") || strings.Contains(value, "/ssh_known_hosts") {
				continue
			}
		default:
			continue
		}
		if got[keyword] != "" {
			value = got[keyword] + " " + value
		}
		if value != "none" && value != "no" {
			got[keyword] = value
		}
	}
	return got
}

func said(t *testing.T, h *Host) map[string]string {
	t.Helper()
	account, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for keyword, value := range map[string]string{
		"hostname": h.HostName, "port": h.Port, "user": cmp.Or(h.User, account.Username), "hostkeyalias": h.HostKeyAlias, "identityagent": h.IdentityAgent,
		"proxyjump": strings.Join(h.ProxyJump, ","), "identityfile": strings.Join(h.IdentityFiles, " "), "certificatefile": strings.Join(h.CertificateFiles, " "),
		"userknownhostsfile": strings.Join(h.UserKnownHosts, " "), "globalknownhostsfile": strings.Join(h.GlobalKnownHosts, " "),
	} {
		if value != "" {
			got[keyword] = value
		}
	}
	if h.IdentitiesOnly {
		got["identitiesonly"] = "yes"
	}
	if h.ConnectTimeout > 0 {
		got["connecttimeout"] = fmt.Sprint(int(h.ConnectTimeout / time.Second))
	}
	return got
}

func TestTokens(t *testing.T) {
	t.Setenv("HOME", "/home/alice")
	t.Setenv("KEYS", "/keys")
	t.Setenv("SOCK", "/run/agent")
	file := write(t, `HostName %h.example.org
User bob
Port 2222
HostKeyAlias alias
IdentityFile ~/.ssh/%r@%h:%p-%n-%k%%
IdentityFile ${KEYS}/%d
CertificateFile %d/cert
UserKnownHostsFile ~/.ssh/known_%n
IdentityAgent $SOCK
ProxyJump j-%n:%p
`)
	h, err := Resolve(file, Query{Alias: "Box", User: "carol"})
	if err != nil {
		t.Fatal(err)
	}
	want := &Host{
		HostName: "box.example.org", User: "carol", Port: "2222", HostKeyAlias: "alias",
		IdentityFiles:    []string{"/home/alice/.ssh/carol@box.example.org:2222-Box-alias%", "/keys//home/alice"},
		CertificateFiles: []string{"/home/alice/cert"}, UserKnownHosts: []string{"/home/alice/.ssh/known_Box"},
		IdentityAgent: "/run/agent", ProxyJump: []string{"j-Box:2222"},
	}
	if diff := gocmp.Diff(want, h); diff != "" {
		t.Error(diff)
	}
}

func TestQueryWins(t *testing.T) {
	h, err := Resolve(write(t, "User a\nPort 1\nMatch user q\nHostName matched\n"), Query{Alias: "x", User: "q", Port: "7"})
	if err != nil || h.User != "q" || h.Port != "7" || h.HostName != "matched" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestNoneIsNotUnset(t *testing.T) {
	h, err := Resolve(write(t, "IdentityFile none\nUserKnownHostsFile none\nIdentityAgent none\n"), Query{Alias: "x"})
	if err != nil || h.IdentityFiles == nil || len(h.IdentityFiles) > 0 || h.UserKnownHosts == nil || h.GlobalKnownHosts != nil || h.IdentityAgent != "none" {
		t.Errorf("%+v, %v", h, err)
	}
}

func TestInclude(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	for name, text := range map[string]string{
		".ssh/conf.d/10":   "Host box\nPort 10\nUser ten\n",
		".ssh/conf.d/20":   "Port 20\nUser twenty\nHostName h\n",
		"elsewhere":        "HostKeyAlias e\nHost none\nHostKeyAlias n\n",
		".ssh/not-for-box": "HostName wrong\nHost box\nHostName wrong\n",
	} {
		file := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	file := write(t, "Host other\nInclude not-for-box\nHost box\nInclude conf.d/* ~/elsewhere none*\nConnectTimeout 9\n")
	h, err := Resolve(file, Query{Alias: "box"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(&Host{HostName: "h", Port: "10", User: "ten", HostKeyAlias: "e", ConnectTimeout: 9 * time.Second}, h); diff != "" {
		t.Error(diff)
	}
	loop := filepath.Join(home, "loop")
	if err := os.WriteFile(loop, []byte("Include ~/loop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(loop, Query{Alias: "box"}); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a file that includes itself: %v", err)
	}
}

func TestRefusedLines(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	for _, tt := range []struct{ name, text, want string }{
		{"proxy command", "Port 1\nProxyCommand touch " + ran, ":2: ProxyCommand: would run a program"},
		{"match exec", "Match host box exec \"touch " + ran + "\"\nPort 1", ":1: Match: exec cannot be judged here"},
		{"match final", "Match final\nPort 1", ":1: Match: final cannot"},
		{"match network", "Match localnetwork 10.0.0.0/8\nPort 1", ":1: Match: localnetwork cannot"},
		{"match nothing", "Match\n", ":1: Match: has no criterion"},
		{"match without a pattern", "Match host\n", ":1: Match: host has no pattern"},
		{"host nothing", "Host\n", ":1: Host: has no pattern"},
		{"known hosts command", "KnownHostsCommand touch " + ran, ":1: KnownHostsCommand: would run a program"},
		{"revoked keys", "RevokedHostKeys /k/revoked", "@revoked"},
		{"revoked keys, called unknown", "IgnoreUnknown *\nRevokedHostKeys /k/revoked", "@revoked"},
		{"canonical names", "CanonicalizeHostname always", "would have DNS decide"},
		{"no keys", "PubkeyAuthentication no", "the only way to log in"},
		{"refused", "RefuseConnection \"moved\"", "not to be connected to"},
		{"no value", "Port", ":1: Port: has no value"},
		{"two values", "IdentityFile /k/a b", ":1: IdentityFile: has more than one value"},
		{"open quote", "User \"a", ":1: User: has a quote that is not closed"},
		{"relative path", "IdentityFile id", `:1: IdentityFile: "id" is neither`},
		{"another home", "IdentityFile ~bob/id", ":1: IdentityFile: \"~bob/id\" is below the home directory of another"},
		{"no such token", "IdentityFile /k/%C", ":1: IdentityFile: %C is not known here"},
		{"no such token of a name", "HostName %n", ":1: HostName: %n is not known here"},
		{"no such variable", "IdentityFile ${NO_SUCH_VARIABLE}/id", "NO_SUCH_VARIABLE"},
		{"timeout", "ConnectTimeout soon", `"soon" is not a time`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text+"\n")
			h, err := Resolve(file, Query{Alias: "box"})
			if err == nil {
				t.Fatalf("accepted as %+v", h)
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), file) || !errors.Is(err, sandboxer.ErrInvalid) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			// What is for other hosts only does not matter.
			if !strings.Contains(tt.text, "\nRevoked") && !strings.HasPrefix(tt.text, "Host") && !strings.HasPrefix(tt.text, "Match") && !strings.Contains(tt.name, "quote") {
				if _, err := Resolve(write(t, "Host other\n"+tt.text+"\n"), Query{Alias: "box"}); err != nil {
					t.Errorf("in a block for another host: %v", err)
				}
			}
		})
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a program was run")
	}
}

func TestWarnings(t *testing.T) {
	file := write(t, "Host *\nStrictHostKeyChecking no\nNoHostAuthenticationForLocalhost yes\nVerifyHostKeyDNS no\nHostKeyAlgorithms +ssh-rsa\nPKCS11Provider /lib/x.so\nFrobnicate yes\nAddressFamily inet\nBindAddress 10.0.0.1\n")
	h, err := Resolve(file, Query{Alias: "box"})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		file + ":2: StrictHostKeyChecking no: not followed: the host's key has to be known or pinned in any case",
		file + ":3: NoHostAuthenticationForLocalhost yes: not followed: the host's key has to be known or pinned in any case",
		file + ":5: HostKeyAlgorithms +ssh-rsa: not followed: the algorithms are the program's own, without SHA-1",
		file + ":6: PKCS11Provider /lib/x.so: not followed: no library is loaded; add the key to an SSH agent",
		file + ":7: Frobnicate yes: not followed: this keyword is not known here",
		file + ":8: AddressFamily inet: not followed: the system chooses where a connection comes from",
		file + ":9: BindAddress 10.0.0.1: not followed: the system chooses where a connection comes from",
	}
	if diff := gocmp.Diff(want, h.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestFilesThatAreNotRead(t *testing.T) {
	dir := t.TempDir()
	for name, file := range map[string]string{"missing": filepath.Join(dir, "none"), "directory": dir} {
		if _, err := Resolve(file, Query{Alias: "x"}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	open := write(t, "Port 1\n")
	if err := os.Chmod(open, 0o606); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(open, Query{Alias: "x"}); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("anybody may write: %v", err)
	}
}

// Every keyword that ssh knows is used, told, refused or of no concern.
func TestEveryKeywordIsKnown(t *testing.T) {
	manual, err := exec.Command("man", "-P", "cat", "ssh_config").Output()
	if err != nil {
		t.Skip("no manual of ssh_config")
	}
	known := strings.Fields(ofNoConcern + oneValue + " host match include ignoreunknown proxycommand userknownhostsfile globalknownhostsfile")
	for _, r := range rules() {
		known = append(known, strings.Fields(r.names)...)
	}
	n := 0
	for l := range strings.Lines(string(manual)) {
		// A keyword stands at the first level of indentation, before its text.
		words := strings.Fields(l)
		if !strings.HasPrefix(l, "     ") || strings.HasPrefix(l, "      ") || len(words) == 0 {
			continue
		}
		word := strings.ToLower(words[0])
		if strings.ToLower(word[:1]) == words[0][:1] || len(words) > 1 && !strings.Contains(l, words[0]+"  ") {
			continue // running text
		}
		n++
		if !slices.Contains(known, word) && !slices.Contains([]string{"patterns", "tokens"}, word) {
			t.Errorf("%s is not known", words[0])
		}
	}
	if n < 50 {
		t.Errorf("only %d keywords found in the manual", n)
	}
}

func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"Host a*b !c\nPort=1\n", "Match host \"x,!y\" user z\nUser 'q'\n", "IdentityFile ${HOME}/%%%h\n", "ProxyJump a@b:1,c\n", "Host \\\n\"\\\""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(strings.ToLower(text), "include") {
			return
		}
		h, err := Resolve(write(t, text), Query{Alias: "host"})
		if err != nil {
			return
		}
		for _, p := range slices.Concat(h.IdentityFiles, h.CertificateFiles, h.UserKnownHosts, h.GlobalKnownHosts) {
			if !filepath.IsAbs(p) {
				t.Errorf("%q is not absolute", p)
			}
		}
	})
}
