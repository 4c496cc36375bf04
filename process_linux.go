package sandboxer

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// machine names this boot and PID namespace: a PID means nothing outside them.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		name, _ := os.Hostname()
		return name
	}
	space, _ := os.Readlink("/proc/self/ns/pid")
	return strings.TrimSpace(string(boot)) + "/" + space
}

// processStart is field 22 of /proc/PID/stat, see proc_pid_stat(5). A zombie
// counts as gone: it does no work.
func processStart(pid int) (start int64, exists bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if err != nil || !ok || len(fields) < 20 {
		return 0, true
	}
	start, _ = strconv.ParseInt(fields[19], 10, 64)
	return start, fields[0] != "Z" && fields[0] != "X"
}
