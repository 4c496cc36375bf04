# What the classic builder leaves behind, on hosts without buildx: every step
# of a build is an image without name or label, and a step that fails leaves
# its container. Builds of one tree share these images, and the engine fails a
# build when one is removed that it is about to use. So they go when no build
# of this root is running, exactly those that a build of this root made, and
# never by force: what somebody gave a name or uses stays. Where the operator
# lets the cache keep things for a time, they stay as long, and the next build
# of the same is a fast one.

# note_steps writes a note, cache/steps/<digest of the id>.<when>: "image since"
# of every step reported by the job, which is only its own if it was made since.
# The note is the root's and names no sandbox. It removes the containers of
# steps.
note_steps() {
	read -r since 2>/dev/null <"$job/built" || return 0
	note=$(printf '%s' "$id" | sha256sum | cut -c -16)
	reported=$(awk '
		/ ---> [0-9a-f]+$/ && length($NF) == 12 { print "image", $NF }
		/ ---> Running in [0-9a-f]+$/ { left[$NF] = 1; print "ran", $NF }
		/Removing intermediate container [0-9a-f]+$/ { delete left[$NF] }
		/^Step [0-9]+\/[0-9]+ : / { gsub(/[]["]/, " "); sub(/.*,/, " "); print "word", $NF }
		END { for (container in left) print "left", container }
	' "$job/out")
	read -r stage rest <"$job/stage"
	[ "$stage" = build ] || [ -n "$reported" ] || return 0
	failed=$(printf '%s\n' "$reported" | sed -n 's/^left //p')
	[ -z "$failed" ] || docker rm -v $failed >/dev/null 2>&1
	{
		printf '%s\n' "$reported" | sed -n "s/^image \(.*\)/\1 $since/p"
		[ "$stage" != build ] || unreported || :
	} >"$root/cache/steps/.$note" && mv "$root/cache/steps/.$note" "$root/cache/steps/$note.$(epoch)"
}

# unnamed lists "time id" of all images without a name.
unnamed() {
	all=$(TZ=UTC docker image ls -a --no-trunc --format '{{.Repository}} {{.CreatedAt}} {{.ID}}') || return
	printf '%s\n' "$all" | sed -n 's/^<none> \([^ ]*\) \([^ ]*\) .* sha256:/\1T\2 /p'
}

# instructions lists the last "word" of every line of the build's Dockerfiles,
# and of what compose adds to them, and the "image" that each begins with.
instructions() {
	echo 'word com.docker.compose.image.builder=classic'
	while read -r file; do
		[ ! -f "$file" ] || { cat -- "$file" && echo; }
	done <"$dir/dockerfiles" | awk '
		/^[ \t]*#/ { next }
		toupper($1) == "FROM" { for (i = 2; i <= NF; i++) if ($i !~ /^--/) { print "base", $i; break } }
		{ gsub(/[]["]/, " "); sub(/.*,/, " "); if (NF) print "word", $NF }
	' | while read -r kind text; do
		case $kind in
		word) printf 'word %s\n' "$text" ;;
		base) docker image inspect --format 'image {{.Id}}' -- "$text" 2>/dev/null | sed 's/sha256:\(.\{12\}\).*/\1/' ;;
		esac
	done
}

# unreported lists the images of steps whose report was lost when the build was
# killed: those made since it began in a container that was reported, of an
# image that the build made, or of another that it used (or nothing) by an
# instruction that ends with the same word as one of the build's. The engine
# shows an image before it knows what that was made of, so one that seems to be
# made of nothing is believed only if it has no layer but its own.
unreported() {
	young=$(unnamed | awk -v since="$since" '$1 >= since { print $2 }')
	[ -n "$young" ] || return 0
	{
		printf '%s\n' "$reported"
		instructions
		docker image inspect --format '{{.Created}} {{.Id}} -{{.Parent}} -{{.Container}} {{json .RootFS}} {{.ContainerConfig.Cmd}}' $young | sort
	} 2>/dev/null | awk -v since="$since" '
		function short(id) { sub(/^-/, "", id); sub(/^sha256:/, "", id); return substr(id, 1, 12) }
		$1 == "image" { known[$2] = 1; next }
		$1 == "ran" { ran[$2] = 1; next }
		$1 == "word" { word[$2] = 1; next }
		$1 == "left" { next }
		{
			id = short($2); parent = short($3); container = short($4)
			layers = gsub(/sha256:/, "", $5)
			first = layers == 0 || layers == 1 && (!/#\(nop\)/ || /#\(nop\) +(COPY|ADD) /)
			gsub(/[]["]/, " ")
			if (id in known) {
				fresh[id] = 1
			} else if (container in ran || parent in fresh || (parent == "" ? first : parent in known) && $NF in word) {
				fresh[id] = 1
				print id, since
			}
		}'
}

# due_steps lists the notes that the cache may no longer keep.
due_steps() {
	cache_ttl
	until=$(($(epoch) - ttl))
	for note in "$root"/cache/steps/*; do
		[ ! -e "$note" ] || [ "${note##*.}" -gt "$until" ] || printf '%s\n' "$note"
	done
}

# sweep_steps removes the noted images, or leaves that to the next one who
# calls it if a build of this root is running. Which notes there are is asked
# anew when it has its turn: whoever had it before may have removed some.
sweep_steps() {
	[ -n "$(due_steps)" ] && cd "$root/cache/steps" || return 0
	if no_builds; then
		set -- $(due_steps | sed 's|.*/||')
		[ "$#" = 0 ] || remove_steps "$@" >/dev/null 2>&1
	fi
	exec 5>&- 7>&-
	cd /
}

# remove_steps NOTE... goes on as long as images are in each other's way. What
# somebody stands on stays noted.
remove_steps() {
	for try in 1 2 3; do
		list=$(unnamed) || return
		unused=$(printf '%s\n' "$list" | awk '
			!listing { if (!($1 in since)) order[++n] = $1; if (!($1 in since) || $2 < since[$1]) since[$1] = $2; next }
			{ id = substr($2, 1, 12); if (id in since && $1 >= since[id]) there[id] = 1 }
			END { for (; n > 0; n--) if (order[n] in there) print order[n] }
		' "$@" listing=1 -) || return
		if [ -z "$unused" ] || docker rmi $unused; then
			rm -f "$@"
			return
		fi
	done
	list=$(unnamed) || return
	unused=$(printf '%s\n' "$list" | sed 's/^[^ ]* \(.\{12\}\).*/\1/')
	for note; do
		left=$(printf '%s\n' "$unused" | awk 'listing { if ($1 in there) print; next } { there[$1] = 1 }' - listing=1 "$note")
		if [ -z "$left" ]; then
			rm -f "$note"
		elif [ "$left" != "$(cat "$note")" ]; then # its age is that of the last change
			printf '%s\n' "$left" >"$note"
		fi
	done
}
