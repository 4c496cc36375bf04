package remote

import "time"

// SetPatience shortens how long a watch pauses, and how long a server may be away.
func (c *Client) SetPatience(pause, patience time.Duration) { c.pause, c.patience = pause, patience }
