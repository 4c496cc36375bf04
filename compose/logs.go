package compose

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"sync"
)

// logReader ends the copying when its reader has enough.
type logReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *logReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

// A merge writes lines of several containers without mixing them.
type merge struct {
	mu     sync.Mutex
	out    io.Writer
	prefix bool
}

func (m *merge) copy(name string, logs io.Reader) {
	lines := bufio.NewReader(logs)
	for {
		line, err := lines.ReadString('\n')
		if line != "" && m.write(name, line) != nil || err != nil {
			return
		}
	}
}

func (m *merge) write(name, line string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.prefix {
		line = name + " | " + line
	}
	_, err := fmt.Fprint(m.out, line)
	return err
}
