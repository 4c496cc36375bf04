package server

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/sand-boxer/sandboxer"
)

// A Token is one consumer that may come. The server knows only its sum.
type Token struct {
	SHA256    string              `json:"sha256"` // of the token, in hexadecimal
	Project   string              `json:"project"`
	ActorType sandboxer.ActorType `json:"actor_type"`
	Actor     string              `json:"actor"`
	Quota     int                 `json:"quota,omitempty"` // most live sandboxes of this consumer; 0 is no limit; not an administrator's
	Admin     bool                `json:"admin,omitempty"` // sees every project and may create for others
	// Workspaces is the directory of its working trees; the server's if empty.
	Workspaces string `json:"workspaces,omitempty"`

	sum  []byte
	root string // Workspaces, resolved
}

// Validate reports what is wrong with what t says of its consumer.
func (t *Token) Validate() error {
	if err := (sandboxer.Consumer{Project: t.Project, ActorType: t.ActorType, Actor: t.Actor}).Validate(); err != nil {
		return err
	}
	switch {
	case t.Quota < 0:
		return &sandboxer.FieldError{Field: "quota", Reason: "is negative"}
	case t.Quota > 0 && t.Admin:
		return &sandboxer.FieldError{Field: "quota", Reason: "does not go with admin: an administrator creates for every consumer, and would not be held by the limit of one"}
	}
	return nil
}

// check validates a token and prepares it for use.
func (t *Token) check(workspaces string) error {
	var err error
	if t.sum, err = hex.DecodeString(t.SHA256); err != nil || len(t.sum) != sha256.Size {
		return &sandboxer.FieldError{Field: "sha256", Reason: "is not the SHA-256 of a token, 64 hexadecimal digits: sandboxd token makes one"}
	}
	if err := t.Validate(); err != nil {
		return err
	}
	if t.root = workspaces; t.Workspaces != "" {
		t.root, err = directory(t.Workspaces)
	}
	return err
}

// ParseTokens reads a file of tokens:
//
//	tokens:
//	- sha256: 0f8e…
//	  project: shop
//	  actor_type: agt
//	  actor: ci
func ParseTokens(file string, text []byte) ([]Token, error) {
	var all struct {
		Tokens []Token `json:"tokens"`
	}
	if err := sandboxer.DecodeStrict(file, text, &all); err != nil {
		return nil, err
	}
	if len(all.Tokens) == 0 {
		return nil, &sandboxer.FieldError{File: file, Field: "tokens", Reason: "has none: nobody could come"}
	}
	seen := map[string]bool{}
	for i, t := range all.Tokens {
		if seen[t.SHA256] {
			return nil, &sandboxer.FieldError{File: file, Field: fmt.Sprintf("tokens[%d].sha256", i), Reason: "is given twice"}
		}
		seen[t.SHA256] = true
		if err := t.check("."); err != nil {
			return nil, fmt.Errorf("%s: tokens[%d]: %w", file, i, err)
		}
	}
	return all.Tokens, nil
}

// NewToken draws a token and gives the sum that stands in the file.
func NewToken() (token, sum string) {
	token = "sbx_" + rand.Text()
	digest := sha256.Sum256([]byte(token))
	return token, hex.EncodeToString(digest[:])
}
