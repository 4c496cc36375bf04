package remote

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSlots(t *testing.T) {
	var never chan struct{}
	take := func(t *testing.T, s *slots, n int) {
		t.Helper()
		for range n {
			if err := s.acquire(t.Context(), never); err != nil {
				t.Fatal(err)
			}
		}
	}
	full := func(t *testing.T, s *slots) bool {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := s.acquire(ctx, never)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if err == nil {
			s.release()
		}
		return err != nil
	}

	t.Run("bound what is open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(3)
			take(t, s, 3)
			if !full(t, s) {
				t.Error("a fourth was given")
			}
			s.release()
			if full(t, s) {
				t.Error("none was given after one had been returned")
			}
		})
	})
	t.Run("wake who waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(1)
			take(t, s, 1)
			got := make(chan error, 2)
			for range 2 {
				go func() { got <- s.acquire(t.Context(), never) }()
			}
			synctest.Wait()
			for range 2 {
				s.release()
				if err := <-got; err != nil {
					t.Error(err)
				}
			}
		})
	})
	t.Run("end waiting with the link", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(1)
			take(t, s, 1)
			lost := make(chan struct{})
			time.AfterFunc(time.Second, func() { close(lost) })
			if err := s.acquire(t.Context(), lost); !errors.Is(err, errLost) {
				t.Errorf("got %v", err)
			}
		})
	})
	t.Run("learn from a refusal, for a while", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(8)
			take(t, s, 3)
			if !s.refused() || !s.tight() {
				t.Error("two others are open: they are the limit")
			}
			if !full(t, s) {
				t.Error("a third was given after the host had refused it")
			}
			time.Sleep(forgetLimit)
			take(t, s, 1)
			if s.tight() {
				t.Error("the limit was not forgotten")
			}
		})
	})
	t.Run("learn nothing when none is open", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSlots(8)
			take(t, s, 1)
			if s.refused() || s.tight() {
				t.Error("nobody else is open, so there is nothing to wait for")
			}
			take(t, s, 8)
		})
	})
}
