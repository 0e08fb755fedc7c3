package pyenv

import (
	"os"
	"os/exec"
	"syscall"
)

// becomeNobody makes a program run as the user nobody, where this process may do that.
func becomeNobody(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}
