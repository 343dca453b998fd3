# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# What bash completes behind "poolswitch". ./dev lint compares it with the
# program's commands and options.

# Its first command; empty while none is typed.
_poolswitch_command()
{
	local i

	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-s | --socket | --gpu | --listen) ((i++)) ;;
		--quota | --reservation | --name | --free) ((i++)) ;;
		--at-quota | --no-daemon | --log) ((i++)) ;;
		--plan | --timeout) ((i++)) ;;
		-*) ;;
		*)
			echo "${COMP_WORDS[i]}"
			return
			;;
		esac
	done
}

# What an option of run may be.
_poolswitch_words()
{
	case $1 in
	--free) echo "fenced wait" ;;
	--at-quota) echo "strict spill" ;;
	--no-daemon) echo "fail pass" ;;
	--log) echo "off warn info" ;;
	--plan) echo "best tensor layer one" ;;
	esac
}

# What may follow a word of model.
_poolswitch_model()
{
	local words="list add load prefetch evict pin unpin remove"

	case $1 in
	model) compgen -W "$words" -- "$2" ;;
	list | add | load | prefetch | evict | pin | unpin | remove) ;;
	*) compgen -f -- "$2" ;;
	esac
}

_poolswitch()
{
	local word=${COMP_WORDS[COMP_CWORD]}
	local before=${COMP_WORDS[COMP_CWORD - 1]}
	local commands="run status clients drain shutdown reload metrics doctor
		model bench"
	local options="--json --socket --help --usage --version"
	local command

	COMPREPLY=()
	case $before in
	-s | --socket)
		mapfile -t COMPREPLY < <(compgen -f -- "$word")
		return
		;;
	--listen)
		mapfile -t COMPREPLY < <(compgen -W "127.0.0.1:" -- "$word")
		return
		;;
	--free | --at-quota | --no-daemon | --log | --plan)
		command=$(_poolswitch_words "$before")
		mapfile -t COMPREPLY < <(compgen -W "$command" -- "$word")
		return
		;;
	--gpu)
		mapfile -t COMPREPLY < <(compgen -W "0 1 2 3" -- "$word")
		return
		;;
	esac
	command=$(_poolswitch_command)
	case $command in
	metrics) options+=" --listen" ;;
	run)
		# Behind them comes a program, with completion of its own.
		if [[ $word != -* ]]; then
			mapfile -t COMPREPLY < <(compgen -c -f -- "$word")
			return
		fi
		options+=" --quota --reservation --name --free --at-quota"
		options+=" --no-daemon --log"
		;;
	doctor) options+=" --gpu" ;;
	bench) [[ $word == -* ]] || options="switch" ;;
	model)
		# What to do, then a name that nobody can guess, then a file.
		if [[ $word != -* ]]; then
			mapfile -t COMPREPLY < <(
				_poolswitch_model "$before" "$word")
			return
		fi
		options+=" --public --plan --timeout"
		;;
	esac
	if [[ -z $command && $word != -* ]]; then
		options=$commands
	fi
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
}

complete -F _poolswitch poolswitch
