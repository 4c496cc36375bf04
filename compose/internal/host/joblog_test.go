package host

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/sand-boxer/sandboxer"
)

func TestLastWord(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, log, want string }{
		{"nothing", "", ""},
		{"progress alone", " Container sbx-a-web-1 Starting \n Image x Building \n", ""},
		{"compose's last line", " Container a-1 Starting \nError response from daemon: No such image: x:1\n", "Error response from daemon: No such image: x:1"},
		{
			"progress goes on after the error",
			"Error response from daemon: pull access denied for x\n Image y:1 Interrupted \n Container z Stopping\n",
			"Error response from daemon: pull access denied for x",
		},
		{
			"an error that only progress tells",
			" Container hx-a-1 Creating \n Container hx-a-1 Error response from daemon: No such image: x:1 \n Container hx-b-1 Created \n",
			"Error response from daemon: No such image: x:1",
		},
		{
			"classic builder",
			"Step 3/4 : RUN [\"/app\",\"fail\"]\n ---> Running in b53d83b09c08\n\x1b[91mboom\n\x1b[0mThe command '/app fail' returned a non-zero code: 7\n",
			"The command '/app fail' returned a non-zero code: 7",
		},
		{
			"buildkit",
			"#6 ERROR: process \"/bin/sh -c false\" did not complete successfully: exit code: 1\n------\n > [2/2] RUN false:\n------\n" +
				"Dockerfile:2\n--------------------\n   2 | >>> RUN false\n--------------------\n" +
				"failed to solve: process \"/bin/sh -c false\" did not complete successfully: exit code: 1\n\nView build details: docker-desktop://dashboard/build/x\n",
			`failed to solve: process "/bin/sh -c false" did not complete successfully: exit code: 1`,
		},
		{
			"bake",
			"target web: failed to solve: x: not found\n\nfailed to execute bake: exit status 1\n",
			"target web: failed to solve: x: not found",
		},
		{"a warning comes last", "no configuration file provided\ntime=\"2026-01-02T03:04:05Z\" level=warning msg=\"unset\"\n", "no configuration file provided"},
		{"a line drawn over", "Sending 1kB\rSending 2kB\r\r\nunknown instruction: COPX\r\n", "unknown instruction: COPX"},
		{"colours", "\x1b[31mred\x1b[0m\n", "red"},
	}
	for _, tt := range tests {
		if got := lastWord(tt.log); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestStageErrorShowsTheEndOfTheStage(t *testing.T) {
	t.Parallel()
	var passed bytes.Buffer
	l := &jobLog{w: &passed}
	whole := "::stage config\nconfigured\n::stage build\n" + strings.Repeat("a line of the build\n", 10_000) + "the reason\n"
	for rest := whole; rest != ""; {
		n := min(777, len(rest))
		if _, err := l.Write([]byte(rest[:n])); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if passed.String() != whole || l.n != int64(len(whole)) {
		t.Errorf("passed on %d bytes and counted %d of %d", passed.Len(), l.n, len(whole))
	}
	var stage *sandboxer.StageError
	if err := l.stageError("build 17"); !errors.As(err, &stage) {
		t.Fatal(err)
	}
	if stage.Stage != "build" || stage.ExitCode != 17 || stage.Message != "the reason" || len(stage.Log) > maxLog || len(stage.Log) < maxLog/2 || !strings.HasPrefix(stage.Log, "a line of the build\n") {
		t.Errorf("stage %q, code %d, message %q, %d bytes of log: %.60q", stage.Stage, stage.ExitCode, stage.Message, len(stage.Log), stage.Log)
	}
	if got := stageLog("::stage config\nconfigured\n::stage up\nstarted\n", "config"); got != "configured\n::stage up\nstarted\n" {
		t.Errorf("log of the stage: %q", got)
	}
}
