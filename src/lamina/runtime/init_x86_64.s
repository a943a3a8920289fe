# SPDX-License-Identifier: Apache-2.0
# The process 1 that --init puts into a container, on x86_64. initprogram.py holds these instructions as bytes and wraps them into an
# ELF file; a test assembles this file and compares. See there for what it does and why it is written like this.
#
# Kept throughout: ebx the command's process, rsp 144 bytes of room. `data` is what initprogram.py appends.
        .intel_syntax noprefix
        .text

# Entry 1. Whoever became this program has made the command's process already, and says its pid through the pipe whose number is in data.
told:
        sub     rsp, 144
        xor     eax, eax                        # read(data, rsp, 4)
        mov     edi, [rip + data]
        mov     rsi, rsp
        mov     edx, 4
        syscall
        cmp     eax, 4
        jne     lost
        mov     ebx, [rsp]
        mov     eax, 3                          # close(data)
        mov     edi, [rip + data]
        syscall
        jmp     named
lost:
        mov     edi, 125
        jmp     leave

# Entry 2. Our arguments are a name, "--", and the command's; data has the paths to try, each ended by a zero byte, the list by one more.
alone:
        mov     rax, [rsp]                      # the number of arguments
        lea     r13, [rsp + 24]                 # the command's arguments
        lea     r14, [rsp + rax*8 + 16]         # the environment
        sub     rsp, 144
        mov     eax, 14                         # rt_sigprocmask(SIG_SETMASK, all, rsp, 8): from now on signals wait for us
        mov     edi, 2
        lea     rsi, [rip + all]
        mov     rdx, rsp
        mov     r10d, 8
        syscall
        mov     eax, 157                        # prctl(PR_SET_CHILD_SUBREAPER, 1): orphans are ours where we aren't process 1, too
        mov     edi, 36
        mov     esi, 1
        syscall
        mov     eax, 56                         # clone(SIGCHLD, 0, 0, 0, 0)
        mov     edi, 17
        xor     esi, esi
        xor     edx, edx
        xor     r10d, r10d
        xor     r8d, r8d
        syscall
        mov     ebx, eax
        test    eax, eax
        js      lost
        jne     named

# The command's process: a process group of its own, the terminal's foreground if there is one (SIGTTOU is blocked still), then execve.
        mov     eax, 109                        # setpgid(0, 0)
        xor     edi, edi
        xor     esi, esi
        syscall
        mov     eax, 39                         # getpid()
        syscall
        mov     [rsp + 8], eax
        mov     eax, 16                         # ioctl(0, TIOCSPGRP, rsp + 8)
        xor     edi, edi
        mov     esi, 0x5410
        lea     rdx, [rsp + 8]
        syscall
        mov     eax, 14                         # rt_sigprocmask(SIG_SETMASK, rsp, 0, 8): as it was
        mov     edi, 2
        mov     rsi, rsp
        xor     edx, edx
        mov     r10d, 8
        syscall
        mov     r15d, 127                       # the exit code if nothing is found; 126 if something is but can't be executed
        lea     r12, [rip + data]
try:
        cmp     byte ptr [r12], 0
        je      none
        mov     eax, 59                         # execve(path, arguments, environment)
        mov     rdi, r12
        mov     rsi, r13
        mov     rdx, r14
        syscall
        cmp     eax, -2                         # ENOENT
        je      next
        cmp     eax, -20                        # ENOTDIR
        je      next
        mov     r15d, 126
next:
        inc     r12
        cmp     byte ptr [r12 - 1], 0
        jne     next
        jmp     try
none:
        mov     eax, 1                          # write(2, text, length)
        mov     edi, 2
        lea     rsi, [rip + text]
        mov     edx, offset text_end - text
        syscall
        mov     edi, r15d
        jmp     leave

# Process 1: signals, one after the other, until the command has ended.
named:
        mov     eax, 157                        # prctl(PR_SET_NAME, name)
        mov     edi, 15
        lea     rsi, [rip + name]
        syscall
watch:
        mov     eax, 128                        # rt_sigtimedwait(all, 0, 0, 8)
        lea     rdi, [rip + all]
        xor     esi, esi
        xor     edx, edx
        mov     r10d, 8
        syscall
        cmp     eax, -4                         # EINTR: stopped and continued
        je      watch
        test    eax, eax
        js      lost
        cmp     eax, 17                         # SIGCHLD
        je      reap
        cmp     eax, 21                         # SIGTTIN and SIGTTOU are about our own use of the terminal
        je      watch
        cmp     eax, 22
        je      watch
        mov     esi, eax                        # kill(command, signal)
        mov     edi, ebx
        mov     eax, 62
        syscall
        jmp     watch
reap:
        mov     eax, 61                         # wait4(-1, rsp, WNOHANG, 0)
        mov     rdi, -1
        mov     rsi, rsp
        mov     edx, 1
        xor     r10d, r10d
        syscall
        test    eax, eax
        jle     watch
        cmp     eax, ebx
        jne     reap
        movzx   edi, byte ptr [rsp + 1]         # the exit code
        mov     eax, [rsp]
        and     eax, 0x7f
        je      leave
        lea     edi, [rax + 128]                # or 128 and the signal that ended it
leave:
        mov     eax, 231                        # exit_group(edi)
        syscall

all:    .quad   -1
name:   .asciz  "docker-init"
text:   .ascii  "docker-init: the command can't be executed\n"
text_end:
data:
