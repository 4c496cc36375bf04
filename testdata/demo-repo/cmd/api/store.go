package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// store is the client of the store service.
type store struct {
	url    string
	client http.Client
}

func (s *store) get(ctx context.Context, key string) (string, error) {
	request, err := s.request(ctx, http.MethodGet, key, nil)
	if err != nil {
		return "", err
	}
	status, body, err := s.do(request)
	if err != nil {
		return "", err
	}
	if status != http.StatusOK {
		return "", fmt.Errorf("store has no key %q: status %d", key, status)
	}
	return body, nil
}

func (s *store) put(ctx context.Context, key, value string) error {
	request, err := s.request(ctx, http.MethodPut, key, strings.NewReader(value))
	if err != nil {
		return err
	}
	status, body, err := s.do(request)
	if err != nil {
		return err
	}
	if status != http.StatusNoContent {
		return fmt.Errorf("store refused key %q: status %d: %s", key, status, body)
	}
	return nil
}

// create writes the key unless it exists and reports whether it did.
func (s *store) create(ctx context.Context, key, value string) (bool, error) {
	request, err := s.request(ctx, http.MethodPut, key, strings.NewReader(value))
	if err != nil {
		return false, err
	}
	request.Header.Set("If-None-Match", "*")
	status, body, err := s.do(request)
	if err != nil {
		return false, err
	}
	switch status {
	case http.StatusNoContent:
		return true, nil
	case http.StatusPreconditionFailed:
		return false, nil
	default:
		return false, fmt.Errorf("store refused key %q: status %d: %s", key, status, body)
	}
}

func (s *store) request(ctx context.Context, method, key string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, s.url+"/keys/"+key, body)
}

func (s *store) do(request *http.Request) (status int, body string, err error) {
	response, err := s.client.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	return response.StatusCode, string(content), err
}
