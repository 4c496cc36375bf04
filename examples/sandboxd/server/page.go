package server

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"path"
)

//go:embed page
var pageFiles embed.FS

// A page is what people see: one document with its style and script in it,
// and the policy that lets these two in and nothing else.
type page struct {
	text   []byte
	policy string
}

func loadPage() (page, error) {
	read := func(name string) ([]byte, error) { return pageFiles.ReadFile(path.Join("page", name)) }
	text, err := read("page.html")
	if err != nil {
		return page{}, err
	}
	policy := "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	for _, part := range []struct{ name, mark, directive string }{{"page.css", "/* style */", "style-src"}, {"page.js", "/* script */", "script-src"}} {
		content, err := read(part.name)
		if err != nil {
			return page{}, err
		}
		text = bytes.Replace(text, []byte(part.mark), content, 1)
		sum := sha256.Sum256(content)
		policy += "; " + part.directive + " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return page{text, policy}, nil
}

func (s *Server) getPage(c *call) error {
	c.Header().Set("Content-Security-Policy", s.page.policy)
	s.send(c, "text/html; charset=utf-8", http.StatusOK, s.page.text)
	return nil
}
