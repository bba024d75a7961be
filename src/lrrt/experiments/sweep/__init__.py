"""How much do range tests differ from run to run? Their curves, which all else starts from."""
