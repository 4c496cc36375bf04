//go:build !linux && !darwin

package remote

import "errors"

// Local fails: scripts need a machine that runs Linux or macOS.
func Local() (Host, error) {
	return nil, errors.New("this machine cannot be a host: local: needs Linux or macOS; name one by ssh://")
}
