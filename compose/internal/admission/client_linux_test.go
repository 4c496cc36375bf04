package admission_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sand-boxer/sandboxer"
)

// TestClientAsAProcess plans every file of the corpus that names a path, and
// every hostile one, with the command line, as a process of its own: the kernel
// says what it opened, how much memory it held and how long it took.
func TestClientAsAProcess(t *testing.T) {
	client := buildClient(t)
	opened := watchOpens(t)
	patience := patience * max(1, (summing(t)/sum))
	repositories := map[string]repository{}
	for _, s := range corpus(t) {
		if len(s.tree) == 1 && !strings.Contains(s.tree["compose.yaml"], "/") {
			continue
		}
		r := repository{tree: s.tree, rule: s.rule}
		if s.verdict != "deny" {
			r.rule = ""
		}
		repositories[s.name] = r
	}
	for name, test := range hostile() {
		repositories[name] = repository{tree: test.tree, rule: test.rule}
	}
	for name, lay := range hostileTrees {
		repositories[name] = repository{lay: lay, rule: "any"}
	}
	for name, r := range repositories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client
			c.repo = r.materialise(t)
			// The machine may be busy: the best of three counts.
			for attempt := 1; ; attempt++ {
				answer := c.plan(t)
				if problem := opened.strange(answer.pid, c.binary, c.allowed()...); problem != "" {
					t.Errorf("opened what is none of the repository: %s", problem)
				}
				answer.expect(t, r.rule)
				if answer.took < patience && answer.memory < memory {
					return
				}
				if attempt == 3 {
					t.Fatalf("took %v and %d MiB", answer.took, answer.memory>>20)
				}
			}
		})
	}
}

// TestHundredServicesAreSoonPlanned: what a plan of a hundred services takes
// of the processor, all of the client's process counted. The kernel counts it,
// so that a busy machine changes little; a slow one is given as much longer as
// it takes for a sum of its own.
func TestHundredServicesAreSoonPlanned(t *testing.T) {
	const most = 200 * time.Millisecond // on a machine that takes sum for its sum
	c := buildClient(t)
	c.repo = materialise(t, hundred())
	c.profiles = filepath.Join(t.TempDir(), "profiles")
	profile, err := os.ReadFile("../../../profiles/profile.compose-e2e.yaml")
	succeed(t, err)
	succeed(t, os.Mkdir(c.profiles, 0o700))
	succeed(t, os.WriteFile(filepath.Join(c.profiles, "p.yaml"), append(profile, "\nconfig: {max_containers: 100}\n"...), 0o600))
	best, slow := time.Duration(1<<63-1), sum
	for range 3 {
		slow = max(slow, summing(t))
		answer := c.plan(t)
		if answer.code != 0 {
			t.Fatalf("ended with %d: %.400s", answer.code, answer.said)
		}
		best = min(best, answer.processor)
	}
	allowed := time.Duration(float64(most) * float64(slow) / float64(sum))
	t.Logf("%v of the processor, of %v", best, allowed)
	if best > allowed {
		t.Errorf("takes %v of the processor, more than %v", best, allowed)
	}
}

// sum is what summing takes on the machine that the bounds are meant for.
const sum = 150 * time.Millisecond

// summing is what a sum takes of the processor that neither memory nor the race
// detector slows down.
func summing(t *testing.T) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Rusage
	succeed(t, unix.Getrusage(unix.RUSAGE_THREAD, &before))
	x := uint64(1)
	for range 100_000_000 {
		x = x*6364136223846793005 + 1
	}
	runtime.KeepAlive(x)
	succeed(t, unix.Getrusage(unix.RUSAGE_THREAD, &after))
	return time.Duration(after.Utime.Nano() - before.Utime.Nano())
}

// A repository to plan, in memory or laid by a function, and the rule that
// refuses it: empty is none, "any" whichever.
type repository struct {
	tree memoryTree
	lay  func(t *testing.T, dir string)
	rule string
}

func (r repository) materialise(t *testing.T) string {
	t.Helper()
	if r.lay != nil {
		dir := t.TempDir()
		r.lay(t, dir)
		return dir
	}
	dir := materialise(t, r.tree)
	for line := range strings.SplitSeq(r.tree["compose.yaml"], "\n") {
		if name, ok := strings.CutPrefix(line, "# fixture: fifo "); ok {
			fifo(t, filepath.Join(dir, name))
		}
	}
	return dir
}

// hostileTrees are what no tree in memory holds.
var hostileTrees = map[string]func(t *testing.T, dir string){
	"the compose file is a FIFO": func(t *testing.T, dir string) { fifo(t, filepath.Join(dir, "compose.yaml")) },
	"the compose file is a directory": func(t *testing.T, dir string) {
		succeed(t, os.Mkdir(filepath.Join(dir, "compose.yaml"), 0o755))
	},
	"the compose file is endless": func(t *testing.T, dir string) {
		succeed(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(service), 0o644))
		succeed(t, os.Truncate(filepath.Join(dir, "compose.yaml"), 1<<40))
	},
	"the compose file is a device": func(t *testing.T, dir string) {
		succeed(t, os.Symlink("/dev/zero", filepath.Join(dir, "compose.yaml")))
	},
	".env is endless": func(t *testing.T, dir string) {
		succeed(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(service), 0o644))
		succeed(t, os.WriteFile(filepath.Join(dir, ".env"), nil, 0o644))
		succeed(t, os.Truncate(filepath.Join(dir, ".env"), 1<<40))
	},
	"a directory links to itself": func(t *testing.T, dir string) {
		succeed(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte("include: [a/a/a/b.yml]\n"+service), 0o644))
		succeed(t, os.Symlink(".", filepath.Join(dir, "a")))
	},
}

func fifo(t *testing.T, path string) {
	t.Helper()
	succeed(t, os.MkdirAll(filepath.Dir(path), 0o755))
	if err := syscall.Mkfifo(path, 0o644); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
}

func succeed(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A client is the command line, with a home and a working directory whose
// files it must not read.
type client struct {
	binary, home, db, repo string
	profiles               string // a directory of some, if not empty
}

func buildClient(t *testing.T) client {
	t.Helper()
	dir := t.TempDir()
	c := client{binary: filepath.Join(dir, "sandbox"), home: filepath.Join(dir, "home"), db: filepath.Join(dir, "db")}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", c.binary, "github.com/sand-boxer/sandboxer/examples/sandbox")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	succeed(t, os.MkdirAll(filepath.Join(c.home, ".docker"), 0o700))
	for name, text := range map[string]string{
		".env": "V=canary\n", "compose.yaml": "services: {c: {image: canary}}", "s.txt": "canary", "Dockerfile": "FROM canary", ".docker/config.json": "{}", ".gitconfig": "",
	} {
		succeed(t, os.WriteFile(filepath.Join(c.home, name), []byte(text), 0o600))
	}
	c.plan(t) // makes the database
	return c
}

// An answer of the client, and what it took.
type answer struct {
	pid       int
	code      int
	out       []byte
	said      string
	took      time.Duration
	processor time.Duration
	memory    uint64 // the most it held, in bytes
}

func (c client) plan(t *testing.T) answer {
	t.Helper()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), c.binary, "--db", c.db, "plan", "--json", "--input", "repo="+c.repo)
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.home, &out, &said
	cmd.Env = []string{"HOME=" + c.home, "TMPDIR=" + os.TempDir(), "PATH=" + os.Getenv("PATH"), "COMPOSE_FILE=" + c.home + "/compose.yaml", "V=canary"}
	if c.profiles != "" {
		cmd.Env = append(cmd.Env, "SANDBOXER_PROFILES="+c.profiles)
	}
	begin := time.Now()
	_ = cmd.Run() // the exit code says it
	took, state := time.Since(begin), cmd.ProcessState
	return answer{
		pid: cmd.Process.Pid, code: state.ExitCode(), out: out.Bytes(), said: said.String(), took: took,
		processor: state.UserTime() + state.SystemTime(), memory: uint64(state.SysUsage().(*syscall.Rusage).Maxrss) << 10,
	}
}

// allowed are what the client may open: its repository, what is its own, and
// what the C library reads to find the user.
func (c client) allowed() []string {
	return []string{c.repo, c.binary, c.db, os.TempDir() + "/sandboxer-", "/usr/lib", "/lib", "/proc", "/sys", "/dev/null",
		"/etc/ld.so.", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group", "/etc/localtime", "/usr/share/zoneinfo"}
}

func (a answer) expect(t *testing.T, rule string) {
	t.Helper()
	if strings.Contains(string(a.out)+a.said, "canary") {
		t.Errorf("tells of a file that is none of the repository: %s%s", a.out, a.said)
	}
	if rule == "" || a.code != 4 {
		if want := map[bool]int{true: 0, false: 4}[rule == ""]; a.code != want && rule != "any" {
			t.Errorf("ended with %d, want %d: %.400s", a.code, want, a.said)
		}
		if a.code < 0 || a.code > 6 {
			t.Errorf("ended with %d: %.2000s", a.code, a.said)
		}
		return
	}
	var plan sandboxer.Plan
	if err := json.Unmarshal(a.out, &plan); err != nil {
		t.Fatalf("%v: %.400s", err, a.out)
	}
	if rule != "any" && !has(plan.Admission, rule) {
		t.Errorf("not refused by %s: %.400v", rule, plan.Admission.Violations)
	}
}

// opens are the files that processes of this machine open, told by the kernel.
type opens struct {
	fd int

	mu  sync.Mutex
	of  map[int][]string // by process
	err error
}

// watchOpens watches the file systems of the root and of temporary files. Only
// root may; for others it is nil, which sees nothing, and the bounds are tested alone.
func watchOpens(t *testing.T) *opens {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_UNLIMITED_QUEUE|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if os.Geteuid() != 0 && errors.Is(err, unix.EPERM) {
		t.Log("only root may watch what processes open: memory and time are tested, opens are not")
		return nil
	}
	succeed(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	for _, at := range []string{"/", os.TempDir(), t.TempDir()} {
		succeed(t, unix.FanotifyMark(fd, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, unix.FAN_OPEN|unix.FAN_ONDIR, unix.AT_FDCWD, at))
	}
	return &opens{fd: fd, of: map[int][]string{}}
}

// strange are the files that the process, which has ended, opened below none
// of the paths. Others had its number before it: its own begin with the program.
func (o *opens) strange(pid int, program string, allowed ...string) string {
	if o == nil {
		return ""
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.read()
	if o.err != nil {
		return o.err.Error()
	}
	all := o.of[pid]
	delete(o.of, pid)
	for len(all) > 0 && slices.Contains(all[1:], program) {
		all = all[1:]
	}
	if len(all) == 0 || all[0] != program {
		return "nothing was seen of it"
	}
	return strings.Join(slices.DeleteFunc(all, func(p string) bool {
		return p == os.TempDir() || slices.ContainsFunc(allowed, func(a string) bool { return strings.HasPrefix(p, a) })
	}), " ")
}

// read takes the events that are there.
func (o *opens) read() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := unix.Read(o.fd, buffer)
		if err != nil {
			if !errors.Is(err, unix.EAGAIN) {
				o.err = err
			}
			return
		}
		for events := buffer[:n]; len(events) > 0; {
			var e unix.FanotifyEventMetadata
			if o.err = binary.Read(bytes.NewReader(events), binary.NativeEndian, &e); o.err != nil {
				return
			}
			events = events[e.Event_len:]
			path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", e.Fd))
			unix.Close(int(e.Fd))
			if err == nil && e.Mask&unix.FAN_OPEN != 0 {
				o.of[int(e.Pid)] = append(o.of[int(e.Pid)], path)
			}
		}
	}
}
