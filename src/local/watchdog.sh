# Ends the servers of one local cluster and removes its files, as soon as the other end of standard
# input is closed: by the owner when it is done, or by the kernel when the owner is dead.
#
# Arguments: the directory of the sockets, the directory of the data, and `keep` or `remove`.
trap '' INT TERM HUP QUIT
sockets=$1 data=$2 after=$3

farewell=
while read -r word; do farewell=$word; done
# An owner that died may have started a server a moment ago that has not written its pid yet.
[ -n "$farewell" ] || sleep 1

# Whether process $1 runs and is the server of directory $2. A pid alone may be somebody else's by now.
serves() {
    if [ -d /proc/self ]; then
        tr '\0' ' ' < "/proc/$1/cmdline" | grep -q -F -e "-D $2 "
    else
        ps -p "$1" -o args= | grep -q -F -e "-D $2 "
    fi
}

children() {
    if [ -d /proc/self ]; then
        for stat in /proc/[0-9]*/stat; do
            read -r pid name _ parent _ < "$stat" || continue
            if [ "$parent" = "$1" ] && [ "$name" = "(postgres)" ]; then echo "$pid"; fi
        done
    else
        ps -A -o pid=,ppid= | while read -r pid parent; do
            if [ "$parent" = "$1" ]; then echo "$pid"; fi
        done
    fi
}

# Prints "pid directory" of each server that runs.
servers() {
    for file in "$data"/*/postmaster.pid; do
        [ -e "$file" ] || continue
        read -r server < "$file" || continue
        directory=${file%/postmaster.pid}
        if serves "$server" "$directory"; then echo "$server"; fi
    done
}

# Immediate shutdown first: only then does a server give back its shared memory.
for server in $(servers); do
    # A server that was stopped (SIGSTOP) hears nothing else.
    kill -CONT "$server" $(children "$server")
    kill -QUIT "$server"
done
rounds=0
while [ "$rounds" -lt 40 ] && [ -n "$(servers)" ]; do
    sleep 0.05 || sleep 1
    rounds=$((rounds + 1))
done
for server in $(servers); do
    offspring=$(children "$server")
    kill -KILL "$server" $offspring
done

# A server that was killed left its pid file, whose line 7 names a shared memory segment.
for file in "$data"/*/postmaster.pid; do
    [ -e "$file" ] || continue
    segment=$(sed -n '7s/^ *[0-9][0-9]* *//p' "$file")
    [ -z "$segment" ] || ipcrm -m "$segment"
done

# A program that was cut off in the middle may still write a file or two.
for _ in 1 2 3 4 5; do
    [ "$after" = keep ] || rm -rf "$data"
    rm -rf "$sockets"
    if [ ! -e "$sockets" ]; then break; fi
    sleep 1
done
