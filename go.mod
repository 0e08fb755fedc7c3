module github.com/dspex/dspex

go 1.26.8
