package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path"
	"time"

	"github.com/sand-boxer/sandboxer"
)

type validator struct {
	*sandboxer.Client
	run      string
	patience time.Duration
}

// validate reports on the checks of a repository. With an error the report
// holds what was found out until then.
func (v *validator) validate(ctx context.Context, repo string) (r report, err error) {
	suite, err := readSuite(repo)
	if err != nil {
		return r, err
	}
	box, err := v.Create(ctx, sandboxer.CreateRequest{
		Profile:  "profile.compose-e2e",
		Inputs:   map[string]string{"repo": repo, "compose_file": path.Join(e2eDir, suite.Compose)},
		Consumer: sandboxer.Consumer{Project: "wise-validator", ActorType: sandboxer.ActorAutomation, Actor: "example", Run: v.run},
	})
	r.about(box) // also with an error: it came to its end then
	if err != nil {
		return r, err
	}
	defer func() {
		gone, destroyErr := v.Destroy(context.WithoutCancel(ctx), box.ID)
		r.about(gone)
		err = errors.Join(err, destroyErr)
	}()
	for _, c := range suite.Checks {
		answer, err := v.poll(ctx, box.ID, c)
		if err != nil {
			return r, err
		}
		r.Checks = append(r.Checks, answer)
	}
	r.conclude()
	return r, nil
}

// pause is how long an application is left alone between two questions.
const pause = 200 * time.Millisecond

// answerBound is how long one answer may take.
const answerBound = 10 * time.Second

// poll asks until a check passes or patience runs out. An error says that
// nothing was learned: the sandbox is over, or its host does not answer.
func (v *validator) poll(ctx context.Context, id string, c check) (result, error) {
	began := time.Now()
	for {
		err := v.ask(ctx, id, c)
		over := time.Since(began) > v.patience
		switch {
		case err == nil:
			return result{Name: c.Name, Passed: true, Seconds: time.Since(began).Seconds()}, nil
		case errors.Is(err, sandboxer.ErrState), over && errors.Is(err, sandboxer.ErrUnavailable):
			return result{}, err
		case over:
			return result{Name: c.Name, Problem: err.Error(), Seconds: time.Since(began).Seconds()}, nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return result{}, context.Cause(ctx)
		}
	}
}

// ask sends one request over a connection of the library's; no port of the
// sandbox is published anywhere.
func (v *validator) ask(ctx context.Context, id string, c check) error {
	ctx, cancel := context.WithTimeout(ctx, answerBound)
	defer cancel()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return v.Dial(ctx, id, c.Service, c.Port) },
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Service+c.Path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	return c.Expect.met(resp.StatusCode, body)
}
