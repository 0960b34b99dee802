# The part `kernel` of scripts/package-run, for bash: the package and its unit on Debian's own kernel, in a virtual machine.
# Sourced, not run.

qemu_pid=

kernel_cleanup() {
    [ -n "$qemu_pid" ] || return 0
    kill "$qemu_pid" 2>/dev/null || true
    wait "$qemu_pid" 2>/dev/null || true
    qemu_pid=
}

# What the machine does when it has booted. Its first serial line is for systemd, the second one for the report.
kernel_trial() {
    cat <<'TRIAL'
#!/bin/sh
exec >/dev/ttyS1 2>&1
dpkg --install /package.deb
su -s /bin/sh simplex -c 'smp-server init --yes --ip 127.0.0.1 --no-password' >/init.txt
systemctl start smp-server
address=$(sed -n 's/^Server address: //p' /init.txt)
i=0
until journalctl --unit smp-server --output cat | grep '^Serving SMP protocol on .*:443$' || [ "$i" -eq 120 ]; do
    i=$((i + 1))
    sleep 1
done
echo "kernel: $(uname -r)"
sed -n 's/^Max \(locked memory\|open files\) *\([^ ]*\) *\([^ ]*\) .*/\1: \3/p' \
    "/proc/$(systemctl show --property=MainPID --value smp-server)/limits"
slow='--timeout-secs 120 --drain-secs 60'
loadgen throughput "$address" --pairs 2 --in-flight 2 --messages 20 $slow --json - >/dev/null 2>&1 && echo 'messages: passed'
loadgen subscribe "$address" --queues 20 --messages-each 2 $slow --json - \
    --meanwhile 'systemctl kill --signal=KILL --kill-whom=main smp-server; sleep 2' >/dev/null 2>&1 && echo 'crash: passed'
echo "warnings: $(journalctl --identifier smp-server --priority warning --quiet --output cat | wc -l)"
systemctl stop smp-server
echo "stop: $(systemctl show --property=Result --value smp-server)"
journalctl --unit smp-server --output cat
systemctl poweroff --force
TRIAL
}

part_kernel() {
    local tree=$work/kernel disk=$work/kernel.img expected
    machine_prepare
    cp -a "$systemd_root" "$tree"
    DEBIAN_FRONTEND=noninteractive chroot "$tree" apt-get install -qq --yes --no-install-recommends \
        linux-image-cloud-amd64 initramfs-tools >"$work/apt.txt" 2>&1 || {
        tail "$work/apt.txt" >&2
        die "cannot install Debian's kernel"
    }
    rm -f "$tree"/var/cache/apt/archives/*.deb
    cp "$packages/1.deb" "$tree/package.deb"
    install -m 755 "$loadgen" "$tree/usr/local/bin/loadgen"
    kernel_trial >"$tree/trial"
    chmod 755 "$tree/trial"
    printf '[Unit]\nAfter=multi-user.target dbus.service\n[Service]\nType=oneshot\nExecStart=/trial\n' \
        >"$tree/etc/systemd/system/trial.service"
    ln -s ../trial.service "$tree/etc/systemd/system/multi-user.target.wants/trial.service"
    cp "$tree"/boot/vmlinuz-* "$work/vmlinuz"
    cp "$tree"/boot/initrd.img-* "$work/initrd"
    truncate -s 2G "$disk"
    mkfs.ext4 -q -d "$tree" "$disk"
    rm -rf --one-file-system "$tree"

    # Emulated: a machine that is virtual itself often has no other way, or one that breaks. It takes half a minute.
    qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1500 -display none -no-reboot -net none \
        -kernel "$work/vmlinuz" -initrd "$work/initrd" -append "root=/dev/vda rw console=ttyS0 quiet" \
        -drive "file=$disk,format=raw,if=virtio,cache=unsafe" -serial "file:$work/console.txt" \
        -serial "file:$work/trial.txt" </dev/null >"$work/qemu.txt" 2>&1 &
    qemu_pid=$!
    for _ in $(seq 600); do
        kill -0 "$qemu_pid" 2>/dev/null || break
        sleep 1
    done
    kernel_cleanup
    tr -d '\r' <"$work/trial.txt" >"$work/kernel.txt"
    for expected in 'locked memory: 536870912' 'open files: 1048576' 'messages: passed' 'crash: passed' 'warnings: 0' \
        'stop: success'; do
        grep -qx "$expected" "$work/kernel.txt" || {
            cat "$work/qemu.txt" >&2
            tail -n 20 "$work/console.txt" >&2 || true
            cat "$work/kernel.txt" >&2
            die "on Debian's kernel: no line '$expected'"
        }
        ok "$(sed -n 's/^kernel: /Linux /p' "$work/kernel.txt"): $expected"
    done
    rm -f "$disk"
}
