package process

import (
	"context"

	"github.com/dspex/dspex/internal/status"
)

// Echo sends data to some worker as attachments and returns what came back. It shows that
// the way to Python and back is sound for data of any size.
func (b *Backend) Echo(ctx context.Context, data [][]byte) ([][]byte, error) {
	out, err := b.do(ctx, job{
		method:      "worker.echo",
		body:        func() ([]byte, error) { return []byte("{}"), nil },
		attachments: data,
	})
	if err != nil {
		return nil, err
	}
	defer out.message.Release()
	back := make([][]byte, len(out.message.Attachments))
	for i, a := range out.message.Attachments {
		if back[i], err = read(a); err != nil {
			return nil, status.Wrap(status.Internal, "echo", err, "an attachment cannot be read: %v", err)
		}
	}
	return back, nil
}
