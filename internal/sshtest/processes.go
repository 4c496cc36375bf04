package sshtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// descendants returns the processes that pid started, and those they started.
func descendants(pid int) []int {
	children := map[int][]int{}
	for child, parent := range parents() {
		children[parent] = append(children[parent], child)
	}
	var found []int
	for next := children[pid]; len(next) > 0; {
		p := next[0]
		found = append(found, p)
		next = append(next[1:], children[p]...)
	}
	return found
}

// parents maps each process of the machine to its parent.
func parents() map[int]int {
	found := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		add(found, filepath.Base(filepath.Dir(file)), statFields(text)[1])
	}
	if len(stats) > 0 {
		return found
	}
	out, _ := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) == 2 {
			add(found, fields[0], fields[1])
		}
	}
	return found
}

func add(parents map[int]int, child, parent string) {
	c, err1 := strconv.Atoi(child)
	p, err2 := strconv.Atoi(parent)
	if err1 == nil && err2 == nil {
		parents[c] = p
	}
}

// kill ends a process and returns when it no longer runs. It leaves the parent,
// which is to be killed after it, some time to reap it: an orphan would stay a
// zombie for good where process 1 reaps none, as in many containers.
func kill(t testing.TB, pid int) {
	t.Helper()
	process, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	process.Kill()
	start := time.Now()
	for state := stateOf(pid); state != ""; state = stateOf(pid) {
		switch waited := time.Since(start); {
		case state == "Z" && waited > 200*time.Millisecond:
			return
		case waited > startLimit:
			t.Errorf("sshtest: process %d outlived SIGKILL", pid)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// stateOf returns the letter of a process's state, "Z" for a zombie; empty if
// there is no such process, or no /proc to ask.
func stateOf(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	return statFields(text)[0]
}

// statFields returns what follows the name in /proc/<pid>/stat, "pid (name)
// state ppid …": the name itself may hold spaces and brackets.
func statFields(text []byte) []string {
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}
