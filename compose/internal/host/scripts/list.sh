# Every sandbox of this root: "attempt lease meta" a line.
for entry in "$root"/sb/*; do
	[ -f "$entry/meta.json" ] || continue
	printf '%s %s %s\n' "$(cut -d' ' -f1 "$entry/attempt")" "$(cat "$entry/lease")" "$(tr -d '\n' <"$entry/meta.json")"
done
exit 0
