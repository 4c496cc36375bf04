package sandboxer

import (
	"os"
	"time"
)

// A Process identifies an operating-system process well enough to tell,
// on the same machine, that it is gone.
type Process struct {
	Machine string `json:"machine"` // this boot of this machine, where known; else the host name
	PID     int    `json:"pid"`
	Start   int64  `json:"start,omitempty"` // start time in the system's own unit; 0 where unknown
}

func currentProcess() Process {
	pid := os.Getpid()
	start, _ := processStart(pid)
	return Process{Machine: machine(), PID: pid, Start: start}
}

// gone reports that the process has certainly ended. A process of another
// machine, or one that cannot be looked at, is not known to be gone.
func (p Process) gone() bool {
	if p.Machine != machine() {
		return false
	}
	start, exists := processStart(p.PID)
	return !exists || p.Start != 0 && start != p.Start
}

// abandoned reports that nobody works on the record any more.
func (o *Operation) abandoned(now time.Time) bool {
	return o == nil || now.After(o.Deadline) || o.Process.gone()
}
