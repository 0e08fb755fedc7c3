package local

import (
	"net/http"
	"time"
)

// idleLimit is below the five seconds after which llama.cpp closes an idle connection: to
// reuse one in that moment would break a request.
const idleLimit = 3 * time.Second

// client speaks to loopback without a proxy. It opens no more connections than the server
// has threads: further requests wait here.
func client(connections int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections,
		IdleConnTimeout: idleLimit,
	}}
}
