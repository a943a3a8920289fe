// SPDX-License-Identifier: Apache-2.0
// The process 1 that --init puts into a container, on aarch64. initprogram.py holds these instructions as bytes and wraps them into an
// ELF file; a test assembles this file and compares. See there for what it does and why it is written like this.
//
// Kept throughout: w19 the command's process, sp 144 bytes of room. `data` is what initprogram.py appends.
        .text

// Entry 1. Whoever became this program has made the command's process already, and says its pid through the pipe whose number is in data.
told:
        sub     sp, sp, #144
        adr     x20, data
        ldrb    w0, [x20]                       // read(data, sp, 4): bytewise, data isn't aligned
        ldrb    w1, [x20, #1]
        orr     w0, w0, w1, lsl #8
        mov     w20, w0
        mov     x1, sp
        mov     x2, #4
        mov     x8, #63
        svc     #0
        cmp     w0, #4
        b.ne    lost
        ldr     w19, [sp]
        mov     w0, w20                         // close(data)
        mov     x8, #57
        svc     #0
        b       named
lost:
        mov     w0, #125
        b       leave

// Entry 2. Our arguments are a name, "--", and the command's; data has the paths to try, each ended by a zero byte, the list by one more.
alone:
        ldr     x0, [sp]                        // the number of arguments
        add     x21, sp, #24                    // the command's arguments
        add     x22, sp, x0, lsl #3
        add     x22, x22, #16                   // the environment
        sub     sp, sp, #144
        mov     x0, #2                          // rt_sigprocmask(SIG_SETMASK, all, sp, 8): from now on signals wait for us
        adr     x1, all
        mov     x2, sp
        mov     x3, #8
        mov     x8, #135
        svc     #0
        mov     x0, #36                         // prctl(PR_SET_CHILD_SUBREAPER, 1): orphans are ours where we aren't process 1, too
        mov     x1, #1
        mov     x8, #167
        svc     #0
        mov     x0, #17                         // clone(SIGCHLD, 0, 0, 0, 0)
        mov     x1, #0
        mov     x2, #0
        mov     x3, #0
        mov     x4, #0
        mov     x8, #220
        svc     #0
        mov     w19, w0
        tbnz    w0, #31, lost
        cbnz    w0, named

// The command's process: a process group of its own, the terminal's foreground if there is one (SIGTTOU is blocked still), then execve.
        mov     x0, #0                          // setpgid(0, 0)
        mov     x1, #0
        mov     x8, #154
        svc     #0
        mov     x8, #172                        // getpid()
        svc     #0
        str     w0, [sp, #8]
        mov     x0, #0                          // ioctl(0, TIOCSPGRP, sp + 8)
        mov     x1, #0x5410
        add     x2, sp, #8
        mov     x8, #29
        svc     #0
        mov     x0, #2                          // rt_sigprocmask(SIG_SETMASK, sp, 0, 8): as it was
        mov     x1, sp
        mov     x2, #0
        mov     x3, #8
        mov     x8, #135
        svc     #0
        mov     w24, #127                       // the exit code if nothing is found; 126 if something is but can't be executed
        adr     x23, data
try:
        ldrb    w0, [x23]
        cbz     w0, none
        mov     x0, x23                         // execve(path, arguments, environment)
        mov     x1, x21
        mov     x2, x22
        mov     x8, #221
        svc     #0
        cmn     w0, #2                          // ENOENT
        b.eq    next
        cmn     w0, #20                         // ENOTDIR
        b.eq    next
        mov     w24, #126
next:
        ldrb    w0, [x23], #1
        cbnz    w0, next
        b       try
none:
        mov     x0, #2                          // write(2, text, length)
        adr     x1, text
        mov     x2, #(text_end - text)
        mov     x8, #64
        svc     #0
        mov     w0, w24
        b       leave

// Process 1: signals, one after the other, until the command has ended.
named:
        mov     x0, #15                         // prctl(PR_SET_NAME, name)
        adr     x1, name
        mov     x8, #167
        svc     #0
watch:
        adr     x0, all                         // rt_sigtimedwait(all, 0, 0, 8)
        mov     x1, #0
        mov     x2, #0
        mov     x3, #8
        mov     x8, #137
        svc     #0
        cmn     w0, #4                          // EINTR: stopped and continued
        b.eq    watch
        tbnz    w0, #31, lost
        cmp     w0, #17                         // SIGCHLD
        b.eq    reap
        cmp     w0, #21                         // SIGTTIN and SIGTTOU are about our own use of the terminal
        b.eq    watch
        cmp     w0, #22
        b.eq    watch
        mov     w1, w0                          // kill(command, signal)
        mov     w0, w19
        mov     x8, #129
        svc     #0
        b       watch
reap:
        mov     x0, #-1                         // wait4(-1, sp, WNOHANG, 0)
        mov     x1, sp
        mov     x2, #1
        mov     x3, #0
        mov     x8, #260
        svc     #0
        cmp     w0, #0
        b.le    watch
        cmp     w0, w19
        b.ne    reap
        ldr     w1, [sp]
        ubfx    w0, w1, #8, #8                  // the exit code
        ands    w1, w1, #0x7f
        b.eq    leave
        add     w0, w1, #128                    // or 128 and the signal that ended it
leave:
        mov     x8, #94                         // exit_group(w0)
        svc     #0

        .balign 8
all:    .quad   -1
name:   .asciz  "docker-init"
text:   .ascii  "docker-init: the command can't be executed\n"
text_end:
data:
