# What the host's files say of one sandbox. In: id.
[ -d "$dir" ] || { echo "absent"; exit 0; }
echo "present"
echo "lease $(cat "$dir/lease" 2>/dev/null)"
echo "attempt $(cat "$dir/attempt" 2>/dev/null)"
[ -e "$dir/destroying" ] && echo "destroying yes"
[ -f "$dir/plan.json" ] && printf 'plan %s\n' "$(cat "$dir/plan.json")"
echo "root $root"
exit 0
