package sandboxer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
)

// yamlStrings rewrites the strings of a JSON document so that YAML reads them:
// it has no surrogate pairs, and takes no control characters unescaped.
func yamlStrings(data []byte) []byte {
	var out bytes.Buffer
	for len(data) > 0 {
		start := bytes.IndexByte(data, '"')
		if start < 0 {
			break
		}
		end := start + 1
		for data[end] != '"' {
			if data[end] == '\\' {
				end++
			}
			end++
		}
		var s string
		_ = json.Unmarshal(data[start:end+1], &s)
		out.Write(data[:start])
		out.WriteString(quoteYAML(s))
		data = data[end+1:]
	}
	out.Write(data)
	return out.Bytes()
}

func quoteYAML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		if r == '"' || r == '\\' || r == '\ufeff' || !unicode.IsPrint(r) {
			fmt.Fprintf(&b, `\U%08X`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
