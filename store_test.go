package dspex_test

import (
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/storetest"
)

func TestMemoryStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Conformance(t, func(*testing.T) dspex.Store { return dspex.NewMemoryStore() })
}
