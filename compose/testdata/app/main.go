// Command app is what the tests' sandboxes run. Its first argument says what
// to do:
//
//	serve PORT TEXT     answer every request with TEXT, GET /probe?… with probe's findings,
//	                    GET /file?path=… with a file
//	health PORT         exit 0 if the server on PORT answers
//	exit CODE AFTER     print a line and exit with CODE after a duration
//	write PATH TEXT     write a file, then exit
//	show PATH CODE      print a file as text and in quotes, and exit with CODE
//	probe TARGET…       try "tcp:host:port", "dns:name", "get:URL" and "file:path", print "TARGET open|closed" each
//	link TARGET PATH    put a symbolic link in the place of PATH
//	swap TARGET PATH FILE PORT
//	                    do what link does and fail; if that was done, print FILE, write beside it, and serve
//	disk NUMBER TEXT    make the node of the disk MAJOR:MINOR and look for TEXT on it
//	mount               mount a file system
//	engine SOCKET       ask the engine behind a socket
//	hog                 allocate memory until something stops it
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fail("say what to do")
	}
	args := append(os.Args[2:], "", "", "", "")
	switch os.Args[1] {
	case "serve":
		serve(args[0], args[1])
	case "health":
		health(args[0])
	case "exit":
		after, _ := time.ParseDuration(args[1])
		time.Sleep(after)
		code, _ := strconv.Atoi(args[0])
		fmt.Println("leaving with", code)
		os.Exit(code)
	case "write":
		if err := os.WriteFile(args[0], []byte(args[1]), 0o600); err != nil {
			fail(err.Error())
		}
	case "show":
		text, err := os.ReadFile(args[0])
		if err != nil {
			fail(err.Error())
		}
		fmt.Printf("%s\n%q\n", text, text)
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "link":
		link(args[0], args[1])
	case "swap":
		swap(args[0], args[1], args[2], args[3])
	case "disk":
		disk(args[0], args[1])
	case "mount":
		if err := errors.Join(os.MkdirAll("/mounted", 0o755), syscall.Mount("none", "/mounted", "tmpfs", 0, "")); err != nil {
			fail(err.Error())
		}
		fmt.Println("mounted a file system")
	case "engine":
		askEngine(args[0])
	case "probe":
		for _, target := range os.Args[2:] {
			fmt.Println(probe(target))
		}
	case "hog":
		var all [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			fmt.Println("holding", len(all)*16, "MiB")
		}
	default:
		fail("do not know " + os.Args[1])
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, text)
	os.Exit(1)
}

func link(target, path string) {
	if err := errors.Join(os.RemoveAll(path), os.Symlink(target, path)); err != nil {
		fail(err.Error())
	}
}

// swap is for a container whose mounts are resolved again when it comes back.
func swap(target, path, file, port string) {
	if at, _ := os.Readlink(path); at != target {
		link(target, path)
		fail("put a link in the place of " + path)
	}
	text, err := os.ReadFile(file)
	fmt.Printf("%s has %q, %v\n", file, text, err)
	fmt.Println("writing beside it:", os.WriteFile(filepath.Join(filepath.Dir(file), "planted"), nil, 0o600))
	serve(port, "swapped")
}

func disk(number, text string) {
	var major, minor int
	if _, err := fmt.Sscanf(number, "%d:%d", &major, &minor); err != nil {
		fail(err.Error())
	}
	if err := syscall.Mknod("/disk", syscall.S_IFBLK|0o600, major<<8|minor); err != nil {
		fail(err.Error())
	}
	content, err := os.ReadFile("/disk")
	if err != nil {
		fail(err.Error())
	}
	fmt.Println("the text is on the disk:", bytes.Contains(content, []byte(text)))
}

func serve(port, text string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Join(os.Environ(), "\n")) })
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		text, err := os.ReadFile(r.URL.Query().Get("path")) // unlike http.ServeFile, of any length: those in /proc say 0
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
		_, _ = w.Write(text)
	})
	mux.HandleFunc("/probe", func(w http.ResponseWriter, r *http.Request) {
		for _, target := range r.URL.Query()["target"] {
			fmt.Fprintln(w, probe(target))
		}
	})
	server := &http.Server{Addr: ":" + port, Handler: mux}
	go func() { <-ctx.Done(); _ = server.Close() }()
	fmt.Println("serving on", port)
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fail(err.Error())
	}
}

func health(port string) {
	client := http.Client{Timeout: time.Second}
	resp, err := client.Get("http://127.0.0.1:" + port + "/")
	if err != nil {
		fail(err.Error())
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}

// probe tries one target within two seconds.
func probe(target string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	kind, where, _ := strings.Cut(target, ":")
	var err error
	switch kind {
	case "tcp":
		var d net.Dialer
		var conn net.Conn
		if conn, err = d.DialContext(ctx, "tcp", where); err == nil {
			_ = conn.Close()
		}
	case "dns":
		_, err = net.DefaultResolver.LookupHost(ctx, where)
	case "get":
		err = fetch(ctx, where)
	case "file":
		var text []byte
		if text, err = os.ReadFile(where); err == nil {
			target += fmt.Sprintf(" %q", text)
		}
	default:
		err = fmt.Errorf("no kind of target")
	}
	if err != nil {
		return target + " closed: " + err.Error()
	}
	return target + " open"
}

// askEngine lists containers, which only the engine can.
func askEngine(socket string) {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://engine/containers/json")
	if err != nil {
		fail(err.Error())
	}
	defer resp.Body.Close()
	fmt.Println("the engine answers", resp.Status)
}

// fetch gets a page, through the proxy of the environment where there is one.
func fetch(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
