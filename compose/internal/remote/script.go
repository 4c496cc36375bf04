package remote

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A script travels in three steps, because each step can be trusted with less
// than the next:
//
//  1. The command line is for a login shell of unknown kind (bash, fish, tcsh),
//     so it is one constant without values, newlines, backslashes or
//     exclamation marks, which these shells read differently.
//  2. That makes a POSIX shell evaluate the first line of its input, the
//     prologue, which sets up the environment and reads the script.
//  3. The prologue evaluates the script between two markers.
//
// All reading is done by "read -r", byte by byte: what follows on the same
// input is left for the script's commands. (A shell told to read its script
// from input, "sh -s", may read ahead; dash before 0.5.12 does.)
const (
	loginCommand = "exec /bin/sh -c '" + firstLine + "'"
	firstLine    = `IFS= read -r SBX && eval "$SBX"`
)

// prologue reads the lines up to the NONCE into SBX_SCRIPT and announces that
// the script begins, on both outputs: login shells print to either.
const prologue = `unset ENV BASH_ENV CDPATH; umask 077; cd /; LC_ALL=C; ` +
	`PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin:/opt/homebrew/bin${HOME:+:$HOME/bin:$HOME/.local/bin}; ` +
	`export LC_ALL PATH; ` +
	`SBX_NL=$(printf "\n."); SBX_NL=${SBX_NL%.}; SBX_SCRIPT=; ` +
	`while IFS= read -r SBX && [ "$SBX" != NONCE ]; do SBX_SCRIPT=$SBX_SCRIPT$SBX$SBX_NL; done; ` +
	`[ "$SBX" = NONCE ] || exit 255; ` +
	`echo NONCE begin; echo NONCE begin >&2; `

// The script runs in a subshell, so that its exit is not the end of the shell
// that has to report it.
const (
	evaluate = `( unset SBX SBX_NL; eval "$SBX_SCRIPT" ); SBX=$?; `
	report   = `echo NONCE end $SBX; echo NONCE end $SBX >&2`
)

// A script must not outlive its caller, or the link to it. While there is no
// input to give to the script, the end of the input says that they have gone.
// While there is, nothing tells but that nobody takes what is written: so there
// is a beat on standard error, which the caller drops.
//
// What is ended is the process group. Where the shell does not lead it, because
// some wrapper does, the group is not ours to end and only the shell is.
const (
	inputLeash = `exec 3<&0 </dev/null; ` +
		`{ read -r SBX <&3; ` + endGroup + `; } >/dev/null 2>&1 & ` +
		`SBX_LEASH=$!; exec 3<&-; `
	beatLeash = `{ trap "" PIPE; trap 'kill $!; exit' TERM; ` +
		`while sleep 2 3>&- & wait $!; do echo NONCE beat >&3 || break; done; ` + endGroup + `; } 3>&2 </dev/null >/dev/null 2>&1 & ` +
		`SBX_LEASH=$!; `
	endGroup = `trap "" TERM; kill -TERM -$$ || kill -TERM $$; sleep 2; kill -KILL -$$`
	unleash  = `kill $SBX_LEASH 2>/dev/null; wait $SBX_LEASH 2>/dev/null; `
)

// The forms in which a script is run.
const (
	formNoInput = prologue + inputLeash + evaluate + unleash + report
	formInput   = prologue + beatLeash + evaluate + unleash + report
	formRaw     = prologue + `unset SBX SBX_NL; eval "$SBX_SCRIPT"`
)

// newNonce returns a word that no script, value or output contains.
func newNonce() string {
	b := make([]byte, 16)
	rand.Read(b)
	return "sbx-" + hex.EncodeToString(b)
}

// encode returns what the command line expects on its input, in one of the run
// forms, up to the point where the script's own input follows.
func encode(form, nonce string, cmd Command) (io.Reader, error) {
	if i := strings.IndexAny(cmd.Script, "\x00\r"); i >= 0 {
		return nil, fmt.Errorf("script has %q at byte %d", cmd.Script[i], i)
	}
	var b bytes.Buffer
	fmt.Fprintln(&b, strings.ReplaceAll(form, "NONCE", nonce))
	for _, name := range slices.Sorted(maps.Keys(cmd.Vars)) {
		value := cmd.Vars[name]
		if !isName(name) {
			return nil, fmt.Errorf("script variable %q: want a name like [a-z][a-z0-9_]*", name)
		}
		if i := strings.IndexAny(value, "\x00\r"); i >= 0 {
			return nil, fmt.Errorf("script variable %s has %q at byte %d", name, value[i], i)
		}
		fmt.Fprintf(&b, "%s=%s\n", name, quote(value))
	}
	fmt.Fprintf(&b, "%s\n%s\n", cmd.Script, nonce)
	return &b, nil
}

func isName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz"
	return s != "" && strings.Trim(s[:1], letters) == "" && strings.Trim(s, letters+"0123456789_") == ""
}

// quote writes s as one word of a POSIX shell, whatever bytes it has.
func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
