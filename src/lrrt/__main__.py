from lrrt.cli import main

main()
