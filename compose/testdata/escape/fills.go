package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// fills take something until it ends, or until twice the memory of the
// sandbox's profile: what is not stopped by then is not bounded by anything of
// the sandbox's.
var fills = map[string]func(where string) string{
	"disk":      fillDisk,
	"memory":    fillMemory,
	"processes": fillProcesses,
}

const enough = 256 // MiB

// fillDisk has a child do it: a file in memory counts as the container's, and
// the kernel ends a process of it when there is too much.
func fillDisk(dir string) string {
	path := dir + "/fill"
	defer os.Remove(path)
	return byChild("fill", path)
}

func fill(path string) string {
	f, err := os.Create(path)
	check(err)
	defer f.Close()
	chunk := make([]byte, 1<<20)
	for range enough {
		if _, err := f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			return "bounded"
		} else {
			check(err)
		}
	}
	return "not bounded"
}

func fillMemory(string) string { return byChild("allocate") }

func fillProcesses(string) string { return byChild("fork") }

// byChild is what a child prints of what it did, unless the kernel ends it.
func byChild(args ...string) string {
	out, err := exec.Command("/proc/self/exe", args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return strings.TrimSpace(string(out))
	case errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL:
		return "bounded"
	}
	return fmt.Sprintf("%v: %s", err, out)
}

// first has the kernel end this process before the one that tells of it.
func first() { check(os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)) }

func allocate() {
	first()
	var all [][]byte
	for range enough {
		b := make([]byte, 1<<20)
		for i := range b {
			b[i] = 1
		}
		all = append(all, b)
	}
	fmt.Println("not bounded: it holds", len(all), "MiB")
}

// fork starts children until it may not.
func fork() {
	var children []*exec.Cmd
	defer func() {
		for _, c := range children {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for range 1024 {
		c := exec.Command("/proc/self/exe", "wait")
		if err := c.Start(); err != nil {
			fmt.Println("bounded")
			return
		}
		children = append(children, c)
	}
	fmt.Println("not bounded")
}
