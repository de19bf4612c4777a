#!/usr/bin/env bash
# term-svg.sh TITLE <recorded >picture.svg: what a program wrote to a terminal, as a picture.
# Knows bold, dim and the eight colours of SGR; the last version of a line that was overwritten (\r) stays.
#     CLICOLOR_FORCE=1 tools/demo.sh 2>/dev/null | tools/term-svg.sh "make demo" >docs/demo.svg
set -euo pipefail
export LC_ALL=C.UTF-8
title=${1:?usage: term-svg.sh TITLE <recorded >picture.svg}
text=$(sed -e 's/.*\r//' -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g')
# The widest line in characters, escapes and entities counted as they are seen.
columns=$(sed -e 's/\x1b\[[0-9;]*m//g' -e 's/&[a-z]*;/x/g' <<<"$text" | wc -L)
awk -v title="$title" -v columns="$((columns < 80 ? 80 : columns))" -v rows="$(wc -l <<<"$text")" '
function span(s) { # the text since the last change of colour
    if (s == "") return ""
    if (style == "") return s
    return "<tspan " style ">" s "</tspan>"
}
BEGIN {
    size = 14; line = 19; advance = size * 0.6025; pad = 20; bar = 38
    width = int(columns * advance + 2 * pad + 0.5); height = rows * line + bar + pad
    split("#8b949e #ff7b72 #7ee787 #e3b341 #79c0ff #d2a8ff #76e3ea #f0f6fc", colour, " ")
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" role=\"img\">\n", \
        width, height, width
    printf "<title>%s</title>\n", title
    printf "<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#0d1117\"/>\n", width, height
    printf "<path d=\"M0 28V10a10 10 0 0 1 10-10H%da10 10 0 0 1 10 10V28z\" fill=\"#161b22\"/>\n", width - 10
    split("#ff5f57 #febc2e #28c840", dot, " ")
    for (i = 1; i <= 3; i++) printf "<circle cx=\"%d\" cy=\"14\" r=\"5\" fill=\"%s\"/>\n", 2 + 17 * i, dot[i]
    printf "<g font-family=\"ui-monospace,SFMono-Regular,Menlo,Consolas,\x27DejaVu Sans Mono\x27,monospace\" "
    printf "font-size=\"%d\" fill=\"#c9d1d9\" xml:space=\"preserve\" style=\"white-space:pre\">\n", size
    printf "<text x=\"%d\" y=\"18\" font-size=\"12\" fill=\"#8b949e\" text-anchor=\"middle\">%s</text>\n", width / 2, title
}
{
    out = ""; style = ""; rest = $0
    while ((at = index(rest, "\033[")) > 0) {
        out = out span(substr(rest, 1, at - 1))
        rest = substr(rest, at + 2)
        end = index(rest, "m")
        n = split(substr(rest, 1, end - 1), code, ";")
        rest = substr(rest, end + 1)
        style = ""
        for (i = 1; i <= n; i++)
            if (code[i] == 1) style = style "font-weight=\"bold\" fill=\"#f0f6fc\" "
            else if (code[i] == 2) style = style "fill=\"#8b949e\" "
            else if (code[i] >= 30 && code[i] <= 37) style = style "fill=\"" colour[code[i] - 29] "\" "
        sub(/ $/, "", style)
    }
    out = out span(rest)
    if (out != "") printf "<text x=\"%d\" y=\"%d\">%s</text>\n", pad, bar + NR * line - 5, out
}
END { print "</g>\n</svg>" }' <<<"$text"
