//go:build unix

package process_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(hostVariable) != "" {
		os.Exit(host())
	}
	goleak.VerifyTestMain(m)
}
