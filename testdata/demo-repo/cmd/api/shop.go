package main

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
)

type shop struct {
	store    *store
	name     string
	currency string
	greeting string
}

// answer is what GET / returns. Instance tells one running copy of the shop
// from every other: the migration draws it once for a new volume.
type answer struct {
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Schema   int    `json:"schema"`
	Shop     string `json:"shop"`
	Currency string `json:"currency"`
	Greeting string `json:"greeting"`
}

func (s *shop) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /healthz", s.healthz)
	return mux
}

func (s *shop) index(w http.ResponseWriter, r *http.Request) {
	answer, err := s.answer(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

func (s *shop) answer(r *http.Request) (answer, error) {
	instance, err := s.store.get(r.Context(), keyInstance)
	if err != nil {
		return answer{}, err
	}
	version, err := s.store.get(r.Context(), keySchema)
	if err != nil {
		return answer{}, err
	}
	schema, err := strconv.Atoi(version)
	if err != nil {
		return answer{}, err
	}
	return answer{
		Service:  "api",
		Instance: instance,
		Schema:   schema,
		Shop:     s.name,
		Currency: s.currency,
		Greeting: s.greeting,
	}, nil
}

func (s *shop) healthz(w http.ResponseWriter, r *http.Request) {
	if _, err := s.store.get(r.Context(), keySchema); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ok\n")
}
