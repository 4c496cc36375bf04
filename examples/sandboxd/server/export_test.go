package server

import "time"

// SetBodyPatience shortens how long bodies may take to arrive. Call it before
// the server answers.
func (s *Server) SetBodyPatience(d time.Duration) { s.bodyPatience = d }
