//go:build !unix

package sandboxer

import "os"

func machine() string {
	name, _ := os.Hostname()
	return name
}

// processStart relies on FindProcess failing for a process that is not there, as it does on Windows.
func processStart(pid int) (start int64, exists bool) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, false
	}
	_ = p.Release()
	return 0, true
}
