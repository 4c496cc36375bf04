package hosttest

import (
	"os/exec"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
)

// Program compiles a command of this module, such as examples/sandbox, and
// returns its path. It has the race detector if the test has it, so that what
// the test itself was compiled from need not be compiled again.
func Program(t testing.TB, folder string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), path.Base(folder))
	args := []string{"build", "-o", file}
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/sand-boxer/sandboxer/"+folder)...).CombinedOutput(); err != nil {
		t.Fatalf("compiling %s: %v\n%s", folder, err, out)
	}
	return file
}
