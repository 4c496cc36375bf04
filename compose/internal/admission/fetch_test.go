package admission

import (
	"testing"
)

// TestAddedURLs: an ADD may fetch from public hosts, written out; never from
// inside the host's network, in whatever way a builder would understand it.
func TestAddedURLs(t *testing.T) {
	for _, fine := range []string{
		"ADD a b /c/\nADD ./x /y\nADD --chown=1:1 app.tar.gz /\nCOPY http://127.0.0.1/x /y\n",
		"ADD https://github.com/o/r/releases/download/v${V}/x-${ARCH}.tgz /tmp/\n",
		"ADD --checksum=sha256:$SUM https://example.com:8443/x ${HOME}/\n",
		"ADD git@github.com:o/r.git#v1 /src\nADD https://github.com/o/r.git#main:sub /src\nADD github.com/o/r /src\n",
		`ADD ["https://example.com/a b", "/x/$NAME"]` + "\n",
		"ADD target/${JAR} /app.jar\nADD ./$DIR /x\nADD http://1.1.1.1/x http://[2606:4700:4700::1111]/y /z/\n",
		"RUN curl http://127.0.0.1/ && echo ADD http://127.0.0.1/ /x\n# ADD http://127.0.0.1/ /x\nHEALTHCHECK CMD wget http://localhost/\n",
		"RUN <<EOF\ncat <<\"E\" > /x\nhello\nE\nEOF\nADD a /b\nCOPY <<'E' /x\n$x\nE\n",
		"ENV ADD=http://127.0.0.1/\nCMD [\"ADD\", \"http://127.0.0.1/\", \"x\"]\n",
		"RUN cat <<\\EOF\nx\nEOF\n",
	} {
		for _, source := range added(fine) {
			if problem := ledInside(source); problem != "" {
				t.Errorf("%q: %s, %s", fine, source, problem)
			}
		}
	}
	for _, bad := range []string{
		"ADD http://127.0.0.1:2375/containers/json /x", "ADD http://169.254.169.254/latest/meta-data/ /x", "ADD HTTP://10.1.2.3/x /x", "add https://[::1]/x /x",
		"ADD http://[::ffff:192.168.0.1]/x /x", "ADD http://[fe80::1%25eth0]/x /x", "ADD http://100.64.0.1/x /x", "ADD http://0.0.0.0:80 /x",
		"ADD http://localhost/x /x", "ADD http://a.localhost./x /x", "ADD http://metadata.google.internal/x /x", "ADD http://printer.local/x /x", "ADD http://db:8080/x /x",
		"ADD http://2130706433/x /x", "ADD http://0x7f000001/x /x", "ADD http://127.1/x /x", "ADD http://0177.0.0.0x1/x /x", "ADD http://ⓛocalhost.example/x /x",
		"ADD http://example.com@127.0.0.1/x /x", "ADD git@10.0.0.1:o/r.git /x", "ADD me@build:o/r.git /x", "ADD ssh://git@10.0.0.1/r.git /x", "ADD git://172.17.0.1/r /x", "ADD https://10.0.0.1/r.git#main /x",
		"ADD $URL /x", "ADD ${URL} /x", "ADD http://$HOST/x /x", "ADD http://${HOST:-example.com}/x /x", "ADD ht${X}p://127.0.0.1/ /x", "ADD https://example.com$X/y /x", "ADD git@$HOST:r.git /x", "ADD me@$HOST:r.git /x", "ADD http://127.0.0.1/$X /x",
		`ADD ["http://127.0.0.1/x","/x"]`, `ADD [ "a", "http://127.0.0.1/x", "/x" ]`, `ADD --chown="a b" ["\u0068ttp://127.0.0.1/x", "/x"]`, `ADD ["http:\/\/127.0.0.1/x", "/x"]`, `ADD --link ["$URL", "/x"]`,
		`ADD "http"://127.0.0.1/x /x`, `ADD 'http://127.0.0.1/x' /x`, `ADD ht\tp://127.0.0.1/x /x`, "ADD --checksum=x --link http://127.0.0.1/x /x", "ADD a http://127.0.0.1/x b /x/",
		"\u00a0ADD http://127.0.0.1/x /x", "ADD \\\n  # why\n\n  http://127.0.0.1/x \\\n /x", "A\\\nDD http://127.0.0.1/x /x", "ONBUILD ADD http://127.0.0.1/x /x", "ONBUILD onbuild add http://127.0.0.1/x /x",
		"# escape=`\nRUN dir c:\\\nADD http://127.0.0.1/x /x", "RUN echo \\\\\nADD http://127.0.0.1/x /x", "RUN a \\\n  # c\nADD http://127.0.0.1/x /x", "RUN a \\  \n\nb\r\nADD http://127.0.0.1/x /x\r\n",
		"RUN <<E\nx \\\nE\nADD http://127.0.0.1/x /x", "COPY <<\"E\\\" /y\nx\nE\\\nADD http://127.0.0.1/x /x", "COPY <<E` /y\nx\nE`\nADD a /x",
	} {
		found := false
		for _, source := range added("FROM scratch\n" + bad) {
			found = found || ledInside(source) != ""
		}
		if !found {
			t.Errorf("%q passes", bad)
		}
	}
}
