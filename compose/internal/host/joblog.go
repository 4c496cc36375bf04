package host

import (
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sand-boxer/sandboxer"
)

// A jobLog passes on what a job writes and remembers how much that was and
// how it ended.
type jobLog struct {
	w   io.Writer
	n   int64
	end []byte
}

// maxLog is how much of a failed stage's log an error carries, in bytes.
const maxLog = 16 << 10

func (l *jobLog) Write(p []byte) (int, error) {
	n, err := l.w.Write(p)
	l.n += int64(n)
	l.end = append(l.end, p[:n]...)
	if len(l.end) > 4*maxLog {
		l.end = slices.Clone(l.end[len(l.end)-maxLog:])
	}
	return n, err
}

// stageError explains a failure that the host calls "STAGE CODE".
func (l *jobLog) stageError(what string) error {
	stage, code, _ := strings.Cut(what, " ")
	e := &sandboxer.StageError{Stage: stage, Log: stageLog(string(l.end), stage)}
	e.ExitCode, _ = strconv.Atoi(code)
	e.Message = lastWord(e.Log)
	return e
}

// stageLog is what was written since the stage began, at most maxLog of it.
func stageLog(log, stage string) string {
	if _, after, found := strings.Cut("\n"+log, "\n::stage "+stage+"\n"); found {
		log = after
	}
	if len(log) > maxLog {
		log = log[len(log)-maxLog:]
		_, log, _ = strings.Cut(log, "\n")
	}
	return log
}

var (
	// control sequences of terminals
	escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")
	// " Container x Starting": compose's progress, which may go on after what went wrong
	progressLine = regexp.MustCompile(`^ ?(?:Container|Network|Volume|Image|Service) \S+\s+(.*)$`)
	// lines that say that something failed, and not what
	emptyWords = regexp.MustCompile(`^(exit status \d+|.*failed to execute bake: .*|time="[^"]*" level=(info|warning) .*|View build details: .*|[-\s]*)$`)
)

// lastWord is the last line of a stage's log that says what is wrong. That
// may be a line of progress if it is one about an error.
func lastWord(log string) string {
	fallback := ""
	for _, line := range slices.Backward(strings.Split(escapes.ReplaceAllString(log, ""), "\n")) {
		line = line[strings.LastIndexByte(strings.TrimRight(line, "\r"), '\r')+1:]
		line = strings.TrimRight(line, " \r")
		if progress := progressLine.FindStringSubmatch(line); progress != nil {
			if fallback == "" && strings.HasPrefix(progress[1], "Error ") {
				fallback = progress[1]
			}
			continue
		}
		if !emptyWords.MatchString(line) {
			return strings.TrimSpace(line)
		}
	}
	return fallback
}
