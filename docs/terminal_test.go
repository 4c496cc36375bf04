package docs_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A terminal is a shell in which the blocks of a page are run one after the
// other as their reader would, at the root of the repository. A command that
// fails, other than in a condition, ends it.
//
// Of a block of sh, standard output is compared with the block of text that
// follows. A block of console holds commands and output as they stand on a
// screen; what differs each time, ids, addresses and numbers, is an example
// there, and later commands are given the ids and addresses of this time. Where
// no output stands, anything may come.
type terminal struct {
	t       *testing.T
	env     []string
	prompt  string            // of the console commands that are run here
	enter   []string          // begins the command that runs the shell
	instead map[string]string // what is run for commands that begin so

	input  io.WriteCloser
	lines  chan string
	script string   // the file that the next command is put into
	stages []string // what the last command told progress of
	known  []string // pairs of an example of the page and what it is this time
}

// newTerminal has the programs of bin, if any, and a home of its own.
func newTerminal(t *testing.T, bin string, env ...string) *terminal {
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	all := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "XDG_") || strings.HasPrefix(v, "SANDBOXER_") })
	all = append(all, "HOME="+home)
	if bin != "" {
		all = append(all, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return &terminal{t: t, env: append(all, env...), prompt: "$ ", script: filepath.Join(dir, "script"),
		known: []string{"linux/amd64", runtime.GOOS + "/" + runtime.GOARCH, "/root/", home + "/"}}
}

// home is where the terminal's user has files.
func (term *terminal) home() string { return filepath.Join(filepath.Dir(term.script), "home") }

// run runs blocks of a page: those of sh, and the console commands that have
// the terminal's prompt.
func (term *terminal) run(page *script, blocks []fence) {
	term.t.Helper()
	commands := 0
	for i, b := range blocks {
		switch {
		case b.language == "sh" && term.prompt == "$ ":
			want := anything
			if i+1 < len(blocks) && blocks[i+1].language == "text" {
				want = blocks[i+1].text
			}
			commands++
			term.expect(b.text, exactly(want))
			page.ran(b.text)
		case b.language == "console":
			for _, c := range typed(b.text) {
				if command, ok := strings.CutPrefix(c.command, term.prompt); ok {
					commands++
					term.console(command, c.output)
					page.ran(c.command)
				}
			}
		}
	}
	if commands == 0 {
		term.t.Fatal("there is nothing to run")
	}
}

// console runs a command of a console block.
func (term *terminal) console(command, output string) {
	term.t.Helper()
	for begin, other := range term.instead {
		if rest, ok := strings.CutPrefix(command, begin); ok {
			command = other + rest
		}
	}
	command = strings.NewReplacer(term.known...).Replace(command)
	want, names := term.likely(output)
	m := term.expect("{ "+command+"} 2>&1", want)
	for _, stage := range progress.FindAllStringSubmatch(output, -1) {
		if !slices.Contains(term.stages, stage[1]) {
			term.t.Errorf("%s tells no progress of %s, only of %v", command, stage[1], term.stages)
		}
	}
	for i, name := range names {
		term.known = append(term.known, name, m[i+1])
		if isID.MatchString(name) {
			term.known = append(term.known, name[:4]+" ", m[i+1][:4]+" ", name[:4]+"\n", m[i+1][:4]+"\n")
		}
	}
}

// set gives the commands that follow a variable.
func (term *terminal) set(name, value string) {
	term.t.Helper()
	term.expect("export "+name+"='"+value+"'", exactly(""))
}

// create establishes a sandbox of a repository and returns its id.
func (term *terminal) create(repo string) string {
	term.t.Helper()
	return term.expect("sandbox create -q --input 'repo="+repo+"'", regexp.MustCompile(`^([a-z2-7]{20})\n$`))[1]
}

// patience is for what the page says comes, at most.
const patience = 5 * time.Minute

// expect runs commands and returns the submatches of what they print. What a
// command in the background prints may come after the command has returned.
func (term *terminal) expect(commands string, want *regexp.Regexp) []string {
	term.t.Helper()
	term.open()
	if err := os.WriteFile(term.script, []byte(commands+"\n"), 0o600); err != nil {
		term.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(term.input, ". %s </dev/null\necho '%s'\n", term.script, endOfCommand); err != nil {
		term.t.Fatalf("the shell has ended: %v", err)
	}
	var out strings.Builder
	term.stages = nil
	returned, late := false, time.After(patience)
	for {
		if m := want.FindStringSubmatch(fold(out.String())); returned && m != nil {
			return m
		}
		select {
		case line, ok := <-term.lines:
			if !ok {
				term.t.Fatalf("a command failed:\n%s\nIt printed\n%s", commands, &out)
			}
			line, ended := strings.CutSuffix(line, endOfCommand)
			if m := progress.FindStringSubmatch(line); m != nil {
				term.stages = append(term.stages, m[1])
			} else if line != "" || !ended {
				out.WriteString(line + "\n")
			}
			if ended {
				returned, late = true, time.After(10*time.Second)
			}
		case <-late:
			term.t.Fatalf("%s\nprinted\n%s\nwhich does not match\n%s", commands, fold(out.String()), want)
		}
	}
}

const endOfCommand = "-----8<-----"

// open starts the shell.
func (term *terminal) open() {
	if term.input != nil {
		return
	}
	args := append(slices.Clone(term.enter), "sh", "-eu")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env, cmd.Stderr, cmd.WaitDelay = "..", term.env, term.t.Output(), time.Second
	input, err := cmd.StdinPipe()
	if err != nil {
		term.t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		term.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		term.t.Fatal(err)
	}
	term.input, term.lines = input, make(chan string)
	ended := make(chan struct{})
	go func() {
		defer close(term.lines)
		for s := bufio.NewScanner(output); s.Scan(); {
			select {
			case term.lines <- s.Text():
			case <-ended:
			}
		}
	}()
	term.expect(`trap '[ -z "${!:-}" ] || kill "$!" 2>/dev/null || :' EXIT`, exactly(anything))
	term.t.Cleanup(func() {
		close(ended)
		_ = input.Close()
		_ = cmd.Wait()
	})
}

// A command of a console block, with its prompt, and what it printed.
type command struct{ command, output string }

func typed(console string) []command {
	var all []command
	for line := range strings.Lines(console) {
		if strings.HasPrefix(line, "$ ") || strings.HasPrefix(line, "# ") {
			all = append(all, command{command: line})
		} else if len(all) > 0 {
			all[len(all)-1].output += line
		}
	}
	return all
}

// anything is a line that stands for any number of lines; within a line … is
// anything there.
const anything = "…\n"

// progress is told with the seconds that have passed, as fast as the machine is.
var progress = regexp.MustCompile(`(?m)^ *[0-9]+\.[0-9]s  ([a-z]+)`)

// exactly matches a text.
func exactly(text string) *regexp.Regexp {
	return pattern(text, regexp.QuoteMeta)
}

var (
	isID    = regexp.MustCompile(`^[a-z2-7]{20}$`)
	example = regexp.MustCompile(`\b[a-z2-7]{20}\b|127\.0\.0\.1:\d+|\d+(?:\.\d+)*(?:\+[a-z0-9]+)?`)
)

// likely matches a text with other numbers than those of the page, and with
// the ids and addresses that are known; names are the examples of those that
// are not, in the order of the submatches.
func (term *terminal) likely(text string) (want *regexp.Regexp, names []string) {
	var lines strings.Builder
	if text == "" {
		text = anything
	}
	for line := range strings.Lines(text) {
		if !progress.MatchString(line) {
			lines.WriteString(line)
		}
	}
	known := strings.NewReplacer(term.known...)
	want = pattern(lines.String(), func(s string) string {
		var b strings.Builder
		for s != "" {
			at := example.FindStringIndex(s)
			if at == nil {
				at = []int{len(s), len(s)}
			}
			b.WriteString(regexp.QuoteMeta(known.Replace(s[:at[0]])))
			switch found := s[at[0]:at[1]]; {
			case found == "":
			case known.Replace(found) != found:
				b.WriteString(regexp.QuoteMeta(known.Replace(found)))
			case isID.MatchString(found):
				b.WriteString(`([a-z2-7]{20})`)
				names = append(names, found)
			case strings.HasPrefix(found, "127.0.0.1:"):
				b.WriteString(`(127\.0\.0\.1:\d+)`)
				names = append(names, found)
			default:
				b.WriteString(`\d+(?:\.\d+)*(?:\+[a-z0-9.~-]+)?`)
			}
			s = s[at[1]:]
		}
		return b.String()
	})
	return want, names
}

// pattern quotes what is between … and folds white space.
func pattern(text string, quote func(string) string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(fold(text)) {
		if line == anything {
			b.WriteString(`(?:.*\n)*`)
			continue
		}
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				b.WriteString(`.*`)
			}
			b.WriteString(quote(part))
		}
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

// fold makes of any white space within a line one blank.
func fold(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}
