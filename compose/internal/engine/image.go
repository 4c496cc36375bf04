package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// ImportImage makes an image of a tar archive of a root file system and returns its id. The reference, "name:tag",
// moves to it. Each change is a Dockerfile instruction: CMD, ENTRYPOINT, ENV, LABEL and a few more. The archive is
// read to its end unless the engine fails first.
func (c *Client) ImportImage(ctx context.Context, reference string, archive io.Reader, changes ...string) (string, error) {
	if !isName(reference, true) {
		return "", fmt.Errorf("%q is not a reference of an image", reference)
	}
	name, tag := splitTag(reference)
	r := request{
		method: http.MethodPost,
		path:   "/images/create",
		query:  url.Values{"fromSrc": {"-"}, "repo": {name}, "tag": {tag}, "changes": changes},
		stream: archive,
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	last, err := readProgress(ctx, r.op(), resp.Body)
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(last, "sha256:") {
		return "", &Error{Op: r.op(), Message: fmt.Sprintf("the engine ended with %q instead of the image's id", last)}
	}
	return last, nil
}

// splitTag parts a reference at the colon behind its last slash.
func splitTag(reference string) (name, tag string) {
	if colon := strings.LastIndexByte(reference, ':'); colon > strings.LastIndexByte(reference, '/') {
		return reference[:colon], reference[colon+1:]
	}
	return reference, "latest"
}

// readProgress reads a stream of progress messages to its end and returns the last status. The HTTP status was
// success before the work began: a failure is one of the messages.
func readProgress(ctx context.Context, op string, stream io.Reader) (string, error) {
	last := ""
	for messages := json.NewDecoder(stream); ; {
		var m struct {
			Status      string
			Error       string
			ErrorDetail *struct{ Message string }
		}
		switch err := messages.Decode(&m); {
		case errors.Is(err, io.EOF):
			return last, nil
		case err != nil:
			return "", unanswered(ctx, op, err)
		case m.ErrorDetail != nil && m.ErrorDetail.Message != "":
			return "", &Error{Op: op, Message: m.ErrorDetail.Message}
		case m.Error != "":
			return "", &Error{Op: op, Message: m.Error}
		case m.Status != "":
			last = m.Status
		}
	}
}

// RemoveImage removes an image, given its only reference or its id, with its untagged parents; given one of several
// references, only that. It is a conflict while a container uses the image; force removes it nevertheless, unless the
// container runs, and with all its references.
func (c *Client) RemoveImage(ctx context.Context, image string, force bool) error {
	query := url.Values{"force": {strconv.FormatBool(force)}, "noprune": {"false"}}
	return c.act(ctx, http.MethodDelete, "images", image, "", query)
}
